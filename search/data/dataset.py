"""`Split` and `Dataset`: labelled images, split for weights, architecture and a last check."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

_log = logging.getLogger(__name__)

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
        """Images `index` as the network sees them when it is evaluated."""
        ...


@dataclass(frozen=True)
class Dataset:
    """`train` trains weights, `valid` the architecture; `test` is seen by neither."""

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split


def evaluation_batches(
    split: Split, size: int, resolution: int, most: int | None = None
) -> Iterator[Batch]:
    """The split's images in order, or its first `most`, in batches of `size`."""
    count = len(split) if most is None else min(most, len(split))
    for start in range(0, count, size):
        yield split.evaluated(np.arange(start, min(start + size, count)), resolution)


def note_broken(broken: dict[str, str], path: str, why: str) -> None:
    """Remember a broken file; each is told in a warning once, and by the main process."""
    if path not in broken and get_worker_info() is None:
        _log.warning("broken image left out: %s: %s", path, why)
    broken[path] = why


def held_out(labels: NDArray[np.int64], count: int) -> tuple[Index, Index]:
    """Indices of what is left and of `count` images held out, every class in proportion (at least
    one of it); always the same for the same labels."""
    generator = np.random.default_rng(0)
    share = count / len(labels)
    left, out = [], []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        taken = max(1, round(share * len(members)))
        out.append(members[:taken])
        left.append(members[taken:])
    return np.sort(np.concatenate(left)), np.sort(np.concatenate(out))
