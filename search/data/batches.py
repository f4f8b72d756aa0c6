"""Batches of a split as an endless series: a pure function of their number, read ahead."""

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from latency.errors import LatError, UsageError
from search.data.dataset import Batch, Index, Split, note_broken

Part = tuple[int, int]
"""Which part of every batch, and of how many, for a process of several: so many images in a row.
Together they are the batch."""

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
    """Batch number `step` of an endless series of shuffled epochs, augmented, or else as images
    are evaluated. A batch larger than the split is cut to what falls into equal parts of it.

    A pure function of its arguments, so that a resumed run sees what an unbroken one does. Raises
    `UsageError` for fewer images than parts.
    """
    size = _in_equal_parts(min(size, len(split)), part[1])
    epoch, position = divmod(step, len(split) // size)
    places = np.array_split(np.arange(size), part[1])[part[0]]
    index = _order((*seed, epoch), len(split))[position * size + places]
    if not augment:
        return split.plain(index, resolution)
    return split.augmented(index, places, (*seed, epoch, position), resolution)


def _in_equal_parts(images: int, parts: int) -> int:
    """As many of the images as fall into equal parts."""
    if images < parts:
        raise UsageError(f"{images} images for {parts} processes: start fewer, or give more images")
    return images - images % parts


@lru_cache(maxsize=4)
def _order(seed: tuple[int, ...], count: int) -> Index:
    """The images of an epoch, shuffled; kept, as those of ImageNet take as long as an image."""
    return np.random.default_rng(seed).permutation(count)


def worker_processes(asked: int, cpus: int | None = None, ranks: int | None = None) -> int:
    """How many processes read ahead where so many are asked for: no more than this machine has
    CPUs for each of the `ranks` on it, as each takes some hundred megabytes, too; at least one.

    >>> [worker_processes(asked, cpus=8, ranks=4) for asked in (0, 1, 10_000)]
    [0, 1, 2]
    """
    cpus = cpus or len(os.sched_getaffinity(0))
    ranks = ranks or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(asked, max(1, cpus // ranks))


class BatchStream:
    """`draw_batch` for steps that go up by `every`, read ahead by worker processes. Raises its
    errors.

    `workers`: how many (`worker_processes`); none for data in memory. With a GPU, batches lie in
    pinned memory, so that they are copied while it computes.
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
        self._batches = _Drawn(split, size, seed, resolution, part, augment)
        self._workers, self._every = worker_processes(workers), every
        self._coming: Iterator[Batch] | None = None
        self._next: int | None = None

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        if not self._workers:
            return self._batches[step][0]
        if step != self._next or self._coming is None:
            steps = _Steps(step, self._every)
            self._coming = _read_ahead(self._batches, steps, self._workers)
        self._next = step + self._every
        return next(self._coming)

    def close(self) -> None:
        """End the worker processes; `at` starts new ones."""
        self._coming = self._next = None


def evaluation_batches(
    split: Split, size: int, resolution: int, workers: int = 0
) -> Iterator[Batch]:
    """The split's images in order, in batches of `size`, less those that are
    broken; read ahead by worker processes where there are `workers`.

    Raises `LatError` where no image can be read.
    """
    count = len(split)
    batches, starts = _Evaluated(split, size, resolution, count), range(0, count, size)
    workers = worker_processes(workers)
    made = _read_ahead(batches, starts, workers) if workers else (batches[n][0] for n in starts)
    seen = 0
    for images, labels in made:
        seen += len(labels)
        if len(labels):
            yield images, labels
    if not seen:
        path, why = next(iter(split.broken.items()), ("an empty split", "no images"))
        raise LatError(f"none of {count} images can be evaluated, e.g. {path}: {why}")


Made = tuple[Batch, dict[str, str]]
"""A batch, and the broken files that whoever made it has met so far, and why."""


class _Drawn(TorchDataset[Made]):
    """Batches to train on, by the number of their step."""

    def __init__(
        self,
        split: Split,
        size: int,
        seed: tuple[int, ...],
        resolution: int,
        part: Part,
        augment: bool,
    ) -> None:
        self.split = split
        self._words = size, seed, resolution, part, augment

    def __getitem__(self, step: int) -> Made:
        size, seed, resolution, part, augment = self._words
        batch = draw_batch(self.split, size, step, seed, resolution, part, augment)
        return batch, dict(self.split.broken)


class _Evaluated(TorchDataset[Made]):
    """Batches to evaluate on, by the number of their first image; `count` images in all."""

    def __init__(self, split: Split, size: int, resolution: int, count: int) -> None:
        self.split = split
        self._words = size, resolution, count

    def __getitem__(self, start: int) -> Made:
        size, resolution, count = self._words
        index = np.arange(start, min(start + size, count))
        return self.split.evaluated(index, resolution), dict(self.split.broken)


class _Steps:
    """Numbers of the steps from one on."""

    def __init__(self, first: int, every: int) -> None:
        self.first, self.every = first, every

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += self.every


def _read_ahead(
    batches: _Drawn | _Evaluated, numbers: Iterable[int], workers: int
) -> Iterator[Batch]:
    """The batches of these numbers, made by worker processes."""
    loader: DataLoader[Any] = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        multiprocessing_context="forkserver",  # threads of this process do not survive a fork
        prefetch_factor=2,
        pin_memory=torch.cuda.is_available(),
    )
    for batch, broken in loader:
        for path, why in broken.items():  # met by a worker, which has a split of its own
            note_broken(batches.split.broken, path, why)
        images, labels = batch
        yield images, labels
