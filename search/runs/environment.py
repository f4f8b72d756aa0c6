"""What a result keeps of where a search ran, so that it can be repeated, and read elsewhere."""

import platform
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.cards import known_cards, own_cards_folder
from latency import machine
from latency.operators.network import NetworkSpec
from search.budget import Budget, BudgetKind
from search.jobs.targets import Target
from search.result import operator_rows
from search.shared_card import shared_part
from search.space import SearchSpace
from search.spaces.own import SUFFIXES
from search.training.compute import Compute


def run_facts(
    budgets: Sequence[Budget],
    targets: Mapping[str, Target],
    space: SearchSpace,
    compute: Compute,
    network: NetworkSpec,
) -> dict[str, Any]:
    """`environment` and `operators` of the `SearchResult` of a search that found `network`."""
    latencies = [budget for budget in budgets if budget.kind is BudgetKind.LATENCY]
    operators = {budget.name: operator_rows(budget.predict(network)) for budget in latencies}
    return {"environment": environment(targets.values(), space, compute), "operators": operators}


def environment(targets: Iterable[Target], space: SearchSpace, compute: Compute) -> dict[str, Any]:
    """What a search runs in and on: versions, the machine, the device trained on, the number of
    processes, and `files`: by its path the text of the user's own space, and by its name what a
    device card of theirs says of how was measured. A result is shared: nothing in it names or
    unlocks a machine."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": machine.system(),
        "machine": machine.hardware(),
        "trained_on": _device(compute.device),
        "threads": torch.get_num_threads(),
        "processes": compute.ranks.world,
        "files": {**_space_file(space), **dict(_cards(targets))},
    }


def _device(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type
    return f"cuda, {torch.cuda.get_device_name(device)}"


def _space_file(space: SearchSpace) -> dict[str, str]:
    """The user's own space, if its file is still there."""
    named = (Path(name) for name in shlex.split(space.arguments)[:1])
    paths = (path for path in named if path.suffix in SUFFIXES and path.is_file())
    return {str(path): path.read_text(errors="replace") for path in paths}


def _cards(targets: Iterable[Target]) -> Iterator[tuple[str, str]]:
    """The user's own cards that are still there, without what identifies or unlocks a machine."""
    for path in filter(None, map(_own_card, targets)):
        if path.is_file():
            yield path.name, shared_part(path.read_text(errors="replace"))


def _own_card(target: Target) -> Path | None:
    """The file of a target's card; None where it has none, or the card is a shipped one."""
    if target.name.endswith(".toml"):
        return Path(target.name)
    card = known_cards().get(target.card.name if target.card else target.name)
    return card if card is not None and card.is_relative_to(own_cards_folder()) else None
