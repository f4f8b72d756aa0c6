"""Where a search ran: the part of a result that is needed to repeat it elsewhere."""

import platform
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.cards import known_cards, own_cards_folder
from latency import machine
from search.jobs.targets import Target
from search.shared_card import shared_part
from search.space import SearchSpace
from search.spaces.own import SUFFIXES
from search.training.compute import Compute


def environment(targets: Iterable[Target], space: SearchSpace, compute: Compute) -> dict[str, Any]:
    """Versions, the machine, the device trained on, the number of processes, and `files`: the
    user's own space by its path, and the measuring part of their device cards by name. Results are
    shared, so nothing in it identifies or unlocks a machine."""
    device = compute.device
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": machine.system(),
        "machine": machine.hardware(),
        "trained_on": f"{device.type}{gpu}",
        "threads": torch.get_num_threads(),
        "processes": compute.ranks.world,
        "files": _own_files(targets, space),
    }


def _own_files(targets: Iterable[Target], space: SearchSpace) -> dict[str, str]:
    """The files of the user's own space and cards that still exist."""
    files = {}
    for path in map(Path, shlex.split(space.words)[:1]):
        if path.suffix in SUFFIXES and path.is_file():
            files[str(path)] = path.read_text(errors="replace")
    for card in map(_own_card, targets):
        if card is not None and card.is_file():
            files[card.name] = shared_part(card.read_text(errors="replace"))
    return files


def _own_card(target: Target) -> Path | None:
    """The file of a target's card; None if it has none, or a shipped one."""
    if target.name.endswith(".toml"):
        return Path(target.name)
    card = known_cards().get(target.bench.card.name if target.bench else target.name)
    return card if card is not None and card.is_relative_to(own_cards_folder()) else None
