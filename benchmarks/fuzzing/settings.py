"""TOML files that people write: device cards, settings of a search, search spaces."""

import json
from functools import partial
from pathlib import Path
from random import Random

import numpy as np

from devices.card import load_card
from devices.connection import connect_all
from fuzzing.damage import TOML_VALUES, reassigned, relined, reworded
from fuzzing.target import Target, one_file
from search import presets, spaces
from search.budget import BudgetKind, memory_of, size_costs
from search.space import space_at
from search.training.optimizer import Cosines

_CHANGES = (reassigned(TOML_VALUES), reassigned(TOML_VALUES), reworded, relined)
_CARD = """\
description = "some board"
transport = "ssh"
runtime = "onnxruntime"
provider = "cpu"
threads = 2
batch = 1
precision = "float32"
graph_optimization = "all"
affinity = [2, 3]

[measuring]
ci95 = 0.01
sessions = 3
max_sessions = 8
min_samples = 12
max_samples = 100
sample_ms = 1.0
seconds = 120.0
drift = 0.02

[ssh]
host = "board.local"
port = 22
user = "someone"
key = "~/.ssh/id_none"
python = "python3"
connect_seconds = 10

[replay]
table = "far-away"
devices = 2
pace = 0.5
"""
_SETTINGS = """\
strategy = "proxyless-g"
binarisation = "two"
penalty = "lagrangian"
warmup_epochs = 2.0
search_steps = 600
train_epochs = 4.5
arch_every = 2
batch_size = 64
arch_batch_size = 64
learning_rate = 0.05
arch_learning_rate = 0.001
momentum = 0.9
weight_decay = 4e-5
label_smoothing = 0.1
path_dropout = 0.1
workers = 0
precision = "float32"
"""


def card(folder: Path) -> Target:
    """A card, up to where its device would be asked; no adb server is."""
    path = folder / "board.toml"
    path.write_text(_CARD)
    return one_file(path, partial(_read_card, path), *_CHANGES)


def _read_card(path: Path, generator: Random) -> None:
    found = load_card(str(path))
    json.dumps([found.name, found.argument, found.description, found.affinity])
    if found.transport == "adb":
        return
    for device in connect_all(found):
        json.dumps([device.label, device.suffix])
        if found.transport == "replay":
            json.dumps(device.setting.identity)


def settings(folder: Path) -> Target:
    """Settings of a search, as far as its plan; nothing is trained."""
    path = folder / "settings.toml"
    path.write_text(_SETTINGS)
    return one_file(path, partial(_read_settings, path), *_CHANGES)


def _read_settings(path: Path, generator: Random) -> None:
    images = generator.choice([2, 1797, 1_281_167])
    found = presets.load_settings(str(path), images, generator.choice([None, 2, 256]))
    found = found.with_choices(steps=generator.choice([None, 100]))
    schedule = Cosines(found.search_cosines)
    assert all(rate >= 0 for rate in map(schedule.at, (0, 1, found.warmup_steps)))
    json.dumps([found.as_dict, found.arch_steps])


def space(folder: Path) -> Target:
    """A space of one's own, with sizes of its networks."""
    path = folder / "space.toml"
    path.write_bytes((Path(spaces.__file__).parent / "mbv3.toml").read_bytes())
    return one_file(path, partial(_read_space, path), *_CHANGES)


def _read_space(path: Path, generator: Random) -> None:
    options = generator.choice([{}, {"width": 0.5}, {"resolution": 32}, {"batch": 8}])
    found = space_at(spaces.load(str(path), classes=10, **options), 1)
    costs = size_costs(found, BudgetKind.MACS)
    assert costs.fastest_ms <= costs.slowest_ms
    choices = found.random_choices(2, np.random.default_rng(0))
    assert min(memory_of(found.network(row.tolist())) for row in choices) > 0
