"""`Split` and `Dataset`: labelled images, split for weights, architecture and a last check."""

import logging
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

_log = logging.getLogger(__name__)

_TOLD_EACH = 10
"""Broken files of a split that are told one by one; then only their number is, now and then."""

Index = NDArray[np.int64]

Batch = tuple[Tensor, Tensor]
"""Images, float32 (samples, channels, resolution, resolution), normalised, in channels-last
memory; labels, int64 (samples,)."""


class Split(Protocol):
    """Labelled images, in memory or read when asked for."""

    @property
    def broken(self) -> dict[str, str]:
        """Files that could not be read and were left out, and why."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def augmented(
        self, index: Index, places: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        """Images `index` as the network sees them in training: what is random about an image is a
        function of `seed` and of its place in the batch alone."""
        ...

    def evaluated(self, index: Index, resolution: int) -> Batch:
        """Images `index` as the network sees them when it is evaluated, less those that are
        broken."""
        ...

    def plain(self, index: Index, resolution: int) -> Batch:
        """The same, with others in place of those that are broken: as many images as asked for."""
        ...


@dataclass(frozen=True)
class Dataset:
    """`train` trains weights, `valid` the architecture; `test` is seen by neither. `name` tells the
    data set apart from others."""

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split

    @property
    def broken(self) -> dict[str, str]:
        """Files that could not be read so far and were left out, and why."""
        return {**self.train.broken, **self.valid.broken, **self.test.broken}


def note_broken(broken: dict[str, str], path: str, why: str) -> None:
    """Remember a broken file. Each is told in a warning once, by the main process, and where they
    are many, their number at 100, 1000, and so on."""
    if path in broken:
        return
    broken[path] = why
    if get_worker_info() is not None:
        return
    count = len(broken)
    if count <= _TOLD_EACH:
        _log.warning("broken image left out: %s: %s", path, why)
    elif count == 10 ** round(math.log10(count)):
        _log.warning("%d broken images left out, the last one is %s: %s", count, path, why)


def held_out(labels: NDArray[np.int64], count: int) -> tuple[Index, Index]:
    """Indices of what is left and of `count` images held out, every class in proportion (rounded
    by largest remainders; at least one of a class, and never its last); always the same for the
    same labels."""
    generator = np.random.default_rng(0)
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = count * sizes / len(labels)
    taken = np.floor(quotas).astype(int)
    by_remainder = np.argsort(taken - quotas, kind="stable")
    taken[by_remainder[: count - taken.sum()]] += 1
    taken = np.minimum(np.maximum(taken, 1), sizes - 1)
    left, out = [], []
    for label, number in zip(classes, taken, strict=True):
        members = generator.permutation(np.flatnonzero(labels == label))
        out.append(members[:number])
        left.append(members[number:])
    return np.sort(np.concatenate(left)), np.sort(np.concatenate(out))
