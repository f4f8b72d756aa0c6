"""Batches of a split as an endless series: a pure function of their number, read ahead."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from search.data.dataset import Batch, Split, note_broken

Part = tuple[int, int]
"""Which part of every batch, and of how many: every so many-th image of it, for a process of
several. Together they are the batch."""

WHOLE: Part = (0, 1)


def draw_batch(
    split: Split,
    size: int,
    step: int,
    seed: tuple[int, ...],
    resolution: int,
    part: Part = WHOLE,
) -> Batch:
    """Batch number `step` of an endless series of shuffled epochs, augmented.

    A pure function of its arguments, so that a resumed run sees what an unbroken one does.
    """
    size = min(size, len(split))
    epoch, position = divmod(step, len(split) // size)
    order = np.random.default_rng((*seed, epoch)).permutation(len(split))
    places = np.arange(size)[part[0] :: part[1]]
    index = order[position * size : (position + 1) * size][places]
    return split.augmented(index, places, (*seed, epoch, position), resolution)


class BatchStream:
    """`draw_batch` for steps that go up by `every`, read ahead by worker processes.

    `workers`: how many; none for data in memory. With a GPU, batches lie in pinned memory, so that
    they are copied while it computes.
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
    ) -> None:
        self._batches = _Batches(split, size, seed, resolution, part)
        self._workers, self._every = workers, every
        self._coming: Iterator[tuple[Batch, dict[str, str]]] | None = None
        self._next: int | None = None

    def at(self, step: int) -> Batch:
        """The batch of a step."""
        if not self._workers:
            return self._batches[step][0]
        if step != self._next or self._coming is None:
            self._coming = iter(self._loader(step))
        self._next = step + self._every
        (images, labels), broken = next(self._coming)
        for path, why in broken.items():  # found by a worker, which has a split of its own
            note_broken(self._batches.split.broken, path, why)
        return images, labels

    def _loader(self, step: int) -> DataLoader[Any]:
        return DataLoader(
            self._batches,
            batch_size=None,
            sampler=_Steps(step, self._every),
            num_workers=self._workers,
            prefetch_factor=2,
            pin_memory=torch.cuda.is_available(),
        )


class _Steps:
    """Numbers of the batches from one on."""

    def __init__(self, first: int, every: int) -> None:
        self.first, self.every = first, every

    def __iter__(self) -> Iterator[int]:
        step = self.first
        while True:
            yield step
            step += self.every


class _Batches(TorchDataset[Any]):
    """Batches by their number, each with the broken images met so far."""

    def __init__(
        self, split: Split, size: int, seed: tuple[int, ...], resolution: int, part: Part
    ) -> None:
        self.split = split
        self._words = size, seed, resolution, part

    def __getitem__(self, step: int) -> tuple[Batch, dict[str, str]]:
        size, seed, resolution, part = self._words
        batch = draw_batch(self.split, size, step, seed, resolution, part)
        return batch, dict(self.split.broken)
