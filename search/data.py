"""Data sets for the search: labelled images, split for weights, architecture and a last check."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from latency.errors import unknown_name

_SPLIT_SEED = 0
_MAX_SHIFT = 1 / 8


@dataclass(frozen=True)
class Split:
    """Images, float32 (samples, channels, height, width), normalised; labels, int64 (samples,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """`train` trains weights, `valid` the architecture; `test` is seen by neither."""

    name: str
    classes: int
    train: Split
    valid: Split
    test: Split


def digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8x8 pixels, as three equal colour channels.

    60 % to train, 20 % to validate, 20 % to test, stratified, always the same.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    index = np.arange(len(labels))
    train, rest = train_test_split(index, test_size=0.4, stratify=labels, random_state=_SPLIT_SEED)
    valid, test = train_test_split(
        rest, test_size=0.5, stratify=labels[rest], random_state=_SPLIT_SEED
    )
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = (images - images[train].mean()) / images[train].std()
    images = images.expand(-1, 3, -1, -1)
    splits = [Split(images[part], torch.tensor(labels[part])) for part in (train, valid, test)]
    return Dataset("digits", 10, *splits)


DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits}


def load_dataset(name: str) -> Dataset:
    """The data set of this name; `UsageError` that lists the known ones."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]()


def draw_batch(
    split: Split, size: int, step: int, seed: tuple[int, ...], resolution: int
) -> tuple[Tensor, Tensor]:
    """Batch number `step` of an endless series of shuffled epochs, each image shifted a little.

    A pure function of its arguments, so that a resumed run sees what an unbroken one does.
    Images (size, channels, resolution, resolution) in channels-last memory, labels (size,).
    """
    size = min(size, len(split))
    epoch, position = divmod(step, len(split) // size)
    order = np.random.default_rng((*seed, epoch)).permutation(len(split))
    index = torch.from_numpy(order[position * size : (position + 1) * size])
    shifts = np.random.default_rng((*seed, epoch, position)).uniform(-1, 1, (size, 2))
    images = _resample(split.images[index], resolution, torch.tensor(shifts * 2 * _MAX_SHIFT))
    return images, split.labels[index]


def resize(images: Tensor, resolution: int) -> Tensor:
    """Images as the network sees them when it is evaluated."""
    return _resample(images, resolution, torch.zeros(len(images), 2))


def _resample(images: Tensor, resolution: int, shifts: Tensor) -> Tensor:
    """Bilinear resize with a shift of each image, in units of half its width."""
    transforms = torch.eye(2, 3).repeat(len(images), 1, 1)
    transforms[:, :, 2] = shifts
    shape = [len(images), images.shape[1], resolution, resolution]
    grid = functional.affine_grid(transforms, shape, align_corners=False)
    resampled = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return resampled.contiguous(memory_format=torch.channels_last)
