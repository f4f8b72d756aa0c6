"""CIFAR-10 (Krizhevsky, 2009) from its binary-version files."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from latency.errors import LatError, UsageError
from latency.files import read_file
from search.data.dataset import Batch, Dataset, Index, Split, held_out

_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = "test_batch.bin"
_SIDE, _CLASSES = 32, 10
_ROW = 1 + 3 * _SIDE * _SIDE
"""Bytes per image: its label, then its red, green and blue pixels."""
_MAX_IMAGES_PER_FILE = 10_000
_MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)
_STD = np.array([0.2470, 0.2435, 0.2616], np.float32)
_PAD, _CUTOUT = 4, 16


@dataclass(frozen=True, kw_only=True)
class CifarImages(Split):
    """`images`: uint8 (samples, 3, 32, 32). Augmentation: pad by 4 pixels, crop, flip with
    probability 1/2, and cut out a square of 16 pixels (DeVries & Taylor, Cutout, 2017)."""

    images: NDArray[np.uint8]

    def augmented(
        self, index: Index, positions: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        draws = np.random.default_rng(seed).random((int(positions.max()) + 1, 5))[positions]
        images = _normalised(self.images[index])
        padded = np.pad(images, ((0, 0), (0, 0), (_PAD, _PAD), (_PAD, _PAD)))
        changed = [_augment(image, draw) for image, draw in zip(padded, draws, strict=True)]
        return _batch(np.stack(changed), self.labels[index], resolution)

    def evaluated(self, index: Index, resolution: int) -> Batch:
        return _batch(_normalised(self.images[index]), self.labels[index], resolution)


def cifar10(folder: Path) -> Dataset:
    """The data set in a folder of `data_batch_1.bin` to `_5` and `test_batch.bin`; 5,000 training
    images are held out for the architecture, as in the ProxylessNAS paper.

    Raises `UsageError` if a file is missing, `LatError` if one is damaged.
    """
    missing = [name for name in (*_TRAIN, _TEST) if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder}: {missing[0]} is missing; the binary version of CIFAR-10 has "
            f"{_TRAIN[0]} to {_TRAIN[-1]} and {_TEST} (in cifar-10-batches-bin)"
        )
    parts = [_read(folder / name) for name in _TRAIN]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    train, valid = (
        CifarImages(images=images[index], labels=labels[index])
        for index in held_out(labels, round(len(labels) / 10))
    )
    test_images, test_labels = _read(folder / _TEST)
    test = CifarImages(images=test_images, labels=test_labels)
    return Dataset("cifar10", _CLASSES, train, valid, test)


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = np.frombuffer(read_file(path, _MAX_IMAGES_PER_FILE * _ROW, LatError), np.uint8)
    if not len(content) or len(content) % _ROW:
        raise LatError(f"{path}: {len(content)} bytes are not a multiple of {_ROW} bytes per image")
    rows = content.reshape(-1, _ROW)
    labels = rows[:, 0].astype(np.int64)
    if labels.max() >= _CLASSES:
        raise LatError(f"{path}: has the label {labels.max()}; there are {_CLASSES} classes")
    return rows[:, 1:].reshape(-1, 3, _SIDE, _SIDE), labels


def _normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    scaled = images.astype(np.float32) / 255
    return ((scaled - _MEAN[:, None, None]) / _STD[:, None, None]).astype(np.float32)


def _augment(padded: NDArray[np.float32], draw: NDArray[np.float64]) -> NDArray[np.float32]:
    top, left = (draw[:2] * (2 * _PAD + 1)).astype(int)
    image = padded[:, top : top + _SIDE, left : left + _SIDE].copy()
    if draw[2] < 0.5:
        image = image[:, :, ::-1]
    row, column = (draw[3:] * _SIDE).astype(int)
    half = _CUTOUT // 2
    image[:, max(0, row - half) : row + half, max(0, column - half) : column + half] = 0
    return image


def _batch(images: NDArray[np.float32], labels: NDArray[np.int64], resolution: int) -> Batch:
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    if resolution != _SIDE:
        tensor = functional.interpolate(
            tensor, (resolution, resolution), mode="bilinear", antialias=True
        )
    return tensor.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)
