"""Checkpoints of a search, of the training of what it found, and of what it derived."""

import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import torch

from fuzzing.damage import changed, damaged, put, removed
from fuzzing.target import Target
from latency import Measurement
from search import spaces
from search.budget import Budget, size_costs
from search.confirmation import Attempt
from search.data import load_dataset
from search.runs.checkpoints import keep_attempts, kept_attempts
from search.searcher import SupernetTraining
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint, checked, first_line
from search.training.network_training import NetworkTraining

_SETTINGS = SearchSettings(
    warmup_steps=2,
    search_steps=4,
    arch_every=1,
    batch_size=8,
    arch_batch_size=8,
    train_steps=3,
    train_batch_size=8,
)
_IDENTITY = {"space": "mini@16", "data": "digits", "seed": 0, **_SETTINGS.as_dict}
_VALUES = (
    *(None, True, -1, 0, 1, 3, 1 << 40, 10**30, 0.5, float("nan"), float("inf"), 1e300, ""),
    *("x" * 10_000, "\x1b]0;t\x07", "[]", "nan", [], {}, [[]], {"": 0}, {0: 0}, b"x", (1, 2), 1j),
)


class _EnoughError(Exception):
    """A step has been made from a state that was read."""


def checkpoint(folder: Path) -> Target:
    """What a killed run left, read by the run that goes on; at most one step is made from it."""
    space = spaces.load("mini", resolution=16, width=0.5)
    costs = size_costs(space, "macs")
    budget = Budget("macs", (costs.fastest_ms + costs.slowest_ms) / 2, costs)
    data, network = load_dataset("digits"), space.network(space.largest)
    names = ("begun.pt", "done.pt", "train.pt", "trained.pt", "attempts.pt")
    begun, done, train, trained, attempts = (Checkpoint(folder / n, _IDENTITY, 0) for n in names)

    def search() -> SupernetTraining:
        return SupernetTraining(space, data, [budget], _SETTINGS, seed=0)

    def training() -> NetworkTraining:
        return NetworkTraining(network, data, _SETTINGS, seed=0)

    choices = space.largest
    row = Measurement(1.0, 0.01, 50, 0.9)
    attempt = Attempt(choices, network, {"macs": 1e6}, {"phone": row})
    keep_attempts(attempts, [budget], [attempt])
    for kept, whole, make, step in ((begun, done, search, 4), (train, trained, training, 2)):
        _until(make(), kept, step)
        make().run(whole, lambda report: None)
    readers: dict[Path, Callable[[], object]] = {
        begun.path: lambda: _one_step(search(), begun),
        done.path: lambda: _taken_over(search(), done),
        train.path: lambda: _one_step(training(), train),
        trained.path: lambda: _one_step(training(), trained),
        attempts.path: lambda: kept_attempts(attempts, space, [budget]),
    }
    contents = {path: path.read_bytes() for path in readers}
    chosen = [*readers]

    def restore() -> None:
        for path, content in contents.items():
            removed(path)
            path.write_bytes(content)

    def damage(generator: Random) -> None:
        path = generator.choice([*contents])
        chosen[:] = [path]
        put(path, damaged(contents[path], generator, (_signed,)), generator)

    def read(generator: Random) -> None:
        for path in chosen:
            readers[path]()

    return Target(restore, damage, read)


def _taken_over(training: Any, checkpoint: Checkpoint) -> None:
    with checkpoint.restoring():
        training.take_over(checkpoint.load_of("space", "data"))


def _until(training: Any, checkpoint: Checkpoint, step: int) -> None:
    """Break a training off, once the state before this step is good."""

    def on_step(report: Any) -> None:
        if report.step == step:
            raise _EnoughError

    try:
        training.run(checkpoint, on_step)
    except _EnoughError:
        checkpoint.release()


def _one_step(training: Any, checkpoint: Checkpoint) -> None:
    def on_step(report: Any) -> None:
        raise _EnoughError

    with suppress(_EnoughError):
        training.run(Checkpoint(checkpoint.path, _IDENTITY), on_step)


def _signed(content: bytes, generator: Random) -> bytes:
    """A file whose digest is right and whose content is not."""
    change = generator.choice((_restated, _restated, _repacked))
    inside = change(bytes(checked(content)), generator)
    return first_line(inside) + inside


def _restated(content: bytes, generator: Random) -> bytes:
    """The file of another state: values, shapes and types of tensors, what there is."""
    state = torch.load(io.BytesIO(content), weights_only=True)
    tensors = [
        torch.tensor(float("nan")),
        torch.zeros(0),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(1).expand(1 << 40),
        torch.full((2, 2), 1 << 60),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(2, dtype=torch.bfloat16),
    ]
    found = changed(state, generator, [*_VALUES, *tensors])
    buffer = io.BytesIO()
    torch.save(found, buffer, _use_new_zipfile_serialization=generator.random() < 0.9)
    return buffer.getvalue()


def _repacked(content: bytes, generator: Random) -> bytes:
    """The archive with a file of it damaged, under the right check sum, or left out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        names = old.namelist()
        chosen = generator.choice([name for name in names if name.endswith("data.pkl")] + names)
        for name in names:
            inside = old.read(name)
            if name == chosen:
                if generator.random() < 0.1:
                    continue
                inside = damaged(inside, generator, ())
            new.writestr(name, inside)
    return packed.getvalue()
