"""`digits`: the data set that comes with the tool, for searches of a minute."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from search.data.dataset import Batch, Dataset, Index, Split

_MAX_SHIFT = 1 / 8


@dataclass(frozen=True, kw_only=True)
class ShiftedImages(Split):
    """`images`: float32 (samples, channels, height, width), normalised. The augmentation shifts
    each by up to an eighth of its width."""

    images: Tensor

    def augmented(
        self, index: Index, positions: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        draws = np.random.default_rng(seed).uniform(-1, 1, (int(positions.max()) + 1, 2))
        return self._batch(index, resolution, torch.tensor(draws[positions] * 2 * _MAX_SHIFT))

    def evaluated(self, index: Index, resolution: int) -> Batch:
        return self._batch(index, resolution, torch.zeros(len(index), 2))

    def _batch(self, index: Index, resolution: int, shifts: Tensor) -> Batch:
        """Bilinear resize with a shift of each image, in units of half its width."""
        images = self.images[torch.from_numpy(index)]
        transforms = torch.eye(2, 3).repeat(len(images), 1, 1)
        transforms[:, :, 2] = shifts
        shape = [len(images), images.shape[1], resolution, resolution]
        grid = functional.affine_grid(transforms, shape, align_corners=False)
        resampled = functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        labels = torch.from_numpy(self.labels[index])
        return resampled.contiguous(memory_format=torch.channels_last), labels


def digits() -> Dataset:
    """scikit-learn's 1797 handwritten digits of 8x8 pixels, as three equal colour channels.

    Stratified: 60 % to train, 20 % to validate, 20 % to test; always the same split.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    index = np.arange(len(labels))
    train, rest = train_test_split(index, test_size=0.4, stratify=labels, random_state=0)
    valid, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=0)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = (images - images[train].mean()) / images[train].std()
    images = images.expand(-1, 3, -1, -1)
    splits = [
        ShiftedImages(images=images[part], labels=labels[part]) for part in (train, valid, test)
    ]
    return Dataset("digits", 10, *splits)
