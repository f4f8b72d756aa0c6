"""Images in folders named by class, like ImageNet: `train/CLASS/...`, `val/CLASS/...`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from latency.errors import LatError, UsageError
from latency.names import digest
from search.data.augmentation import BROKEN, centred, random_crop, read_image
from search.data.dataset import Batch, Dataset, Index, Split, held_out, note_broken

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_SCALE, _SHIFT = 1 / (255 * _STD), _MEAN / _STD
"""A pixel value from 0 to 255 times `_SCALE`, minus `_SHIFT`, is normalised."""
_VALIDATION = 50_000
"""Training images held out for the architecture, as in the ProxylessNAS paper; at most a tenth of
the training images."""


@dataclass(frozen=True, kw_only=True)
class ImageFiles(Split):
    """Image files, read on demand. In training batches the next readable file of the split, with
    its own label, replaces a broken one; in an evaluation it is left out."""

    paths: Sequence[str]

    def augmented(
        self, index: Index, positions: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        images, labels = [], []
        for number, position in zip(index.tolist(), positions.tolist(), strict=True):
            # One generator per image, so that a batch is the same however it is divided.
            generator = np.random.default_rng((*seed, position))
            image, label = self._next_readable(number, resolution)
            images.append(random_crop(image, resolution, generator))
            labels.append(label)
        return _batch(images, labels, resolution)

    def evaluated(self, index: Index, resolution: int) -> Batch:
        read = [(self._read(number, resolution), self.labels[number]) for number in index.tolist()]
        return _centred_batch([(image, label) for image, label in read if image], resolution)

    def plain(self, index: Index, resolution: int) -> Batch:
        read = [self._next_readable(number, resolution) for number in index.tolist()]
        return _centred_batch(read, resolution)

    def _next_readable(self, number: int, resolution: int) -> tuple[Image.Image, int]:
        """Image and label at this index, or at the next one that can be read."""
        for offset in range(len(self)):
            current = (number + offset) % len(self)
            if (image := self._read(current, resolution)) is not None:
                return image, int(self.labels[current])
        raise LatError(f"none of {len(self)} images can be read, e.g. {self.paths[number]}")

    def _read(self, number: int, resolution: int) -> Image.Image | None:
        path = self.paths[number]
        try:
            return read_image(path, resolution)
        except BROKEN as error:
            why = " ".join(str(error).split()) or type(error).__name__
            note_broken(self.broken, path, why)
            return None


def image_folder(folder: Path) -> Dataset:
    """The data set in a folder with `train` and `val`, each with one folder of images per class.
    It is named by the folder and by a digest of the classes and their numbers of images.

    Raises `UsageError` if a folder is missing or empty, or if the classes differ.
    """
    train_paths, test_paths = _scan(folder / "train", folder), _scan(folder / "val", folder)
    if differing := sorted(train_paths.keys() ^ test_paths.keys()):
        raise UsageError(
            f"{folder}: train and val must have the same classes; {len(differing)} are in one of "
            f"them only: {', '.join(differing[:3])}"
        )
    train, test = _files(train_paths), _files(test_paths)
    kept, valid = held_out(train.labels, min(_VALIDATION, len(train) // 10))
    if not len(valid):
        raise UsageError(
            f"{folder / 'train'}: one image per class, so none to hold out for the architecture; "
            "add images: at least two per class are needed"
        )
    contents = digest(
        f"{name}/{len(paths)}" for part in (train_paths, test_paths) for name, paths in part.items()
    )
    name = f"{folder.resolve().name}-{contents}"
    return Dataset(name, len(train_paths), _part(train, kept), _part(train, valid), test)


def _scan(folder: Path, root: Path) -> dict[str, list[str]]:
    """Image files by class, sorted by name. Links are followed, hidden files are ignored."""
    if not folder.is_dir():
        raise UsageError(
            f"{root}: the folder {folder.name} is missing; expected train/CLASS/*.JPEG and "
            "val/CLASS/*.JPEG"
        )
    try:
        with os.scandir(folder) as entries:
            classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        found = {
            name: sorted(
                entry.path
                for entry in os.scandir(folder / name)
                if os.path.splitext(entry.name)[1].lower() in _SUFFIXES
                and not entry.name.startswith(".")
            )
            for name in classes
        }
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not classes:
        raise UsageError(f"{folder}: no class folders; expected CLASS/*.JPEG")
    if empty := [name for name, files in found.items() if not files]:
        raise UsageError(f"{folder / empty[0]}: no images ({', '.join(sorted(_SUFFIXES))})")
    return found


def _files(by_class: dict[str, list[str]]) -> ImageFiles:
    paths = [path for files in by_class.values() for path in files]
    labels = np.repeat(np.arange(len(by_class)), [len(files) for files in by_class.values()])
    return ImageFiles(paths=paths, labels=labels)


def _part(files: ImageFiles, index: Index) -> ImageFiles:
    paths = [files.paths[number] for number in index]
    return ImageFiles(paths=paths, labels=files.labels[index])


def _centred_batch(read: Sequence[tuple[Image.Image, int]], resolution: int) -> Batch:
    images = [centred(image, resolution) for image, _ in read]
    return _batch(images, [label for _, label in read], resolution)


def _batch(images: Sequence[Image.Image], labels: Sequence[int], resolution: int) -> Batch:
    pixels = np.empty((len(images), resolution, resolution, 3), np.float32)
    for out, image in zip(pixels, images, strict=True):  # one at a time stays in the cache
        np.multiply(np.asarray(image), _SCALE, out=out)
        out -= _SHIFT
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(labels, dtype=torch.int64)
