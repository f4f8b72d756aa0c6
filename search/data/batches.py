"""Batches of a split, prefetched by worker processes."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from latency.errors import LatError, UsageError
from search.data.dataset import Batch, Index, Split, note_broken

Part = tuple[int, int]
"""A process's part of every batch: its number, and the number of parts. Each part is a run of
consecutive images."""

WHOLE: Part = (0, 1)


def draw_batch(
    split: Split,
    size: int,
    step: int,
    seed: tuple[int, ...],
    resolution: int,
    part: Part = WHOLE,
    augment: bool = True,
) -> Batch:
    """Batch number `step` of an endless series of shuffled epochs. A batch larger than the split
    is cut to the largest size that divides into equal parts.

    A pure function of its arguments, so a resumed run sees the batches of an uninterrupted one.
    Raises `UsageError` for fewer images than parts.
    """
    size = _in_equal_parts(min(size, len(split)), part[1])
    epoch, number = divmod(step, len(split) // size)
    positions = np.array_split(np.arange(size), part[1])[part[0]]
    index = _order((*seed, epoch), len(split))[number * size + positions]
    if not augment:
        return split.plain(index, resolution)
    return split.augmented(index, positions, (*seed, epoch, number), resolution)


def _in_equal_parts(images: int, parts: int) -> int:
    """The largest number of the images that divides into equal parts."""
    if images < parts:
        raise UsageError(f"{images} images for {parts} processes: start fewer, or give more images")
    return images - images % parts


@lru_cache(maxsize=4)  # shuffling ImageNet takes as long as reading an image
def _order(seed: tuple[int, ...], images: int) -> Index:
    """The images of an epoch, shuffled."""
    return np.random.default_rng(seed).permutation(images)


def worker_processes(requested: int, cpus: int | None = None, ranks: int | None = None) -> int:
    """Number of processes that prefetch batches: at most the CPUs per rank of this machine, since
    each takes some hundred megabytes, but at least one unless 0 are requested.

    >>> [worker_processes(requested, cpus=8, ranks=4) for requested in (0, 1, 10_000)]
    [0, 1, 2]
    """
    cpus = cpus or len(os.sched_getaffinity(0))
    ranks = ranks or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(requested, max(1, cpus // ranks))


class BatchStream:
    """`draw_batch` for steps that increase by `every`, prefetched by worker processes. Raises its
    errors.

    `workers`: number of processes (`worker_processes`); 0 for data in memory. With a GPU, batches
    are in pinned memory, so that they are copied while it computes.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        seed: tuple[int, ...],
        resolution: int,
        workers: int = 0,
        every: int = 1,
        part: Part = WHOLE,
        augment: bool = True,
    ) -> None:
        size = _in_equal_parts(min(size, len(split)), part[1])
        draw = partial(
            draw_batch, split, size, seed=seed, resolution=resolution, part=part, augment=augment
        )
        self._batches = _Batches(split, draw)
        self._workers, self._every = worker_processes(workers), every
        self._prefetching: Iterator[Batch] | None = None
        self._next: int | None = None

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        if not self._workers:
            return self._batches.make(step)
        if step != self._next or self._prefetching is None:
            self._prefetching = _prefetched(self._batches, count(step, self._every), self._workers)
        self._next = step + self._every
        return next(self._prefetching)

    def close(self) -> None:
        """End the worker processes; `at` starts new ones."""
        self._prefetching = self._next = None


def evaluation_batches(
    split: Split, size: int, resolution: int, workers: int = 0
) -> Iterator[Batch]:
    """The split's images in order, in batches of `size`, without the broken ones. `workers`
    processes prefetch them; 0 for none.

    Raises `LatError` if no image can be read.
    """
    batches = _Batches(split, partial(split.evaluated, resolution=resolution))
    starts = range(size, len(split), size)
    parts = np.split(np.arange(len(split)), starts)
    workers = worker_processes(workers)
    seen = 0
    for batch in _prefetched(batches, parts, workers) if workers else map(batches.make, parts):
        seen += len(batch[1])
        if len(batch[1]):
            yield batch
    if not seen:
        path, why = next(iter(split.broken.items()), ("an empty split", "no images"))
        raise LatError(f"none of {len(split)} images can be evaluated, e.g. {path}: {why}")


@dataclass(frozen=True)
class _Batches(TorchDataset[tuple[Batch, dict[str, str]]]):
    """Each item is a batch, and the broken files that the process has found so far."""

    split: Split
    make: Callable[[Any], Batch]

    def __getitem__(self, item: Any) -> tuple[Batch, dict[str, str]]:
        return self.make(item), dict(self.split.broken)


def _prefetched(batches: _Batches, items: Iterable[Any], workers: int) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(
        batches,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        multiprocessing_context="forkserver",  # threads of this process do not survive a fork
        prefetch_factor=2,
        pin_memory=torch.cuda.is_available(),
    )
    for batch, broken in loader:
        for path, why in broken.items():  # each worker has its own copy of the split
            note_broken(batches.split.broken, path, why)
        images, labels = batch
        yield images, labels
