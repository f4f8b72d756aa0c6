"""`Split` and `Dataset`: labelled images, split for weights, architecture and a final test."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

_log = logging.getLogger(__name__)

_MAX_WARNINGS = 10
"""Broken files that are reported one by one."""

Index = NDArray[np.int64]

Batch = tuple[Tensor, Tensor]
"""Images, float32 (samples, channels, resolution, resolution), normalised, in channels-last
memory; labels, int64 (samples,)."""


@dataclass(frozen=True, kw_only=True)
class Split(ABC):
    """Images with `labels`, int64 (samples,), in memory or read on demand. `broken`: files that
    could not be read, and why."""

    labels: NDArray[np.int64]
    broken: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def augmented(
        self, index: Index, positions: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        """Images `index`, augmented. The augmentation of an image depends only on `seed` and on
        its position in the batch."""

    @abstractmethod
    def evaluated(self, index: Index, resolution: int) -> Batch:
        """Images `index` without augmentation; broken ones are left out."""

    def plain(self, index: Index, resolution: int) -> Batch:
        """Like `evaluated`, but other images replace the broken ones: always len(index) images."""
        return self.evaluated(index, resolution)


@dataclass(frozen=True)
class Dataset:
    """`train` trains the weights, `valid` the architecture; `test` is used by neither."""

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split

    @property
    def broken(self) -> dict[str, str]:
        """Files that could not be read so far, and why."""
        return {**self.train.broken, **self.valid.broken, **self.test.broken}


def note_broken(broken: dict[str, str], path: str, why: str) -> None:
    """Record a broken file. The main process logs a warning for each of the first 10."""
    if path not in broken:
        broken[path] = why
        if get_worker_info() is None and len(broken) <= _MAX_WARNINGS:
            _log.warning("broken image left out: %s: %s", path, why)


def held_out(labels: NDArray[np.int64], count: int) -> tuple[Index, Index]:
    """Stratified split: indices of the remaining images and of `count` held-out ones.

    Quotas are rounded by largest remainders; each class gives at least one image and keeps at
    least one. The result depends on the labels only.
    """
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
