"""`digits`: the data set that comes with the tool, for searches of a minute."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from search.data.dataset import Batch, Dataset, Index

_SPLIT_SEED = 0
_MAX_SHIFT = 1 / 8


@dataclass(frozen=True)
class ShiftedImages:
    """Images in memory, float32 (samples, channels, height, width), normalised; labels, int64
    (samples,). Augmented, each is shifted by up to an eighth of its width."""

    images: Tensor
    labels: Tensor
    broken: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def augmented(
        self, index: Index, places: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        draws = np.random.default_rng(seed).uniform(-1, 1, (int(places.max()) + 1, 2))
        shifts = torch.tensor(draws[places] * 2 * _MAX_SHIFT)
        chosen = torch.from_numpy(index)
        return _resample(self.images[chosen], resolution, shifts), self.labels[chosen]

    def evaluated(self, index: Index, resolution: int) -> Batch:
        chosen = torch.from_numpy(index)
        shifts = torch.zeros(len(index), 2)
        return _resample(self.images[chosen], resolution, shifts), self.labels[chosen]

    def plain(self, index: Index, resolution: int) -> Batch:
        return self.evaluated(index, resolution)


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
    splits = [
        ShiftedImages(images[part], torch.tensor(labels[part])) for part in (train, valid, test)
    ]
    return Dataset("digits", 10, *splits)


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
