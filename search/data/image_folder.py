"""Images in folders named by their class, as ImageNet comes: `train/CLASS/...`, `val/CLASS/...`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from latency.errors import LatError, UsageError
from latency.names import digest
from search.data.augmentation import BROKEN, centred, random_crop, read_image
from search.data.dataset import Batch, Dataset, Index, held_out, note_broken

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_SCALE, _SHIFT = 1 / (255 * _STD), _MEAN / _STD
"""What normalises a pixel from 0 to 255."""
_VALIDATION = 50_000
"""Training images of ImageNet that are held out for the architecture, as in the paper; of a set
that is not ten times as large, a tenth."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their labels, int64 (samples,), read when asked for.

    In batches the next one of the split takes the place of a file that cannot be read, with its
    own label; in an evaluation it is left out. `broken`: those files, and why.
    """

    paths: Sequence[str]
    labels: NDArray[np.int64]
    broken: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def augmented(
        self, index: Index, places: Index, seed: tuple[int, ...], resolution: int
    ) -> Batch:
        images, labels = [], []
        for number, place in zip(index.tolist(), places.tolist(), strict=True):
            # A generator of its own for each image, so that a part of a batch is that part.
            generator = np.random.default_rng((*seed, place))
            image, label = self._next_whole(number, resolution)
            images.append(random_crop(image, resolution, generator))
            labels.append(label)
        return _batch(images, labels, resolution)

    def evaluated(self, index: Index, resolution: int) -> Batch:
        read = [(self._read(number, resolution), self.labels[number]) for number in index.tolist()]
        whole = [(centred(image, resolution), label) for image, label in read if image]
        return _batch([image for image, _ in whole], [label for _, label in whole], resolution)

    def plain(self, index: Index, resolution: int) -> Batch:
        whole = [self._next_whole(number, resolution) for number in index.tolist()]
        images = [centred(image, resolution) for image, _ in whole]
        return _batch(images, [label for _, label in whole], resolution)

    def _next_whole(self, number: int, resolution: int) -> tuple[Image.Image, int]:
        """Image and label of this number, or of the next one that can be read."""
        for turn in range(len(self)):
            current = (number + turn) % len(self)
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
    """The data set in a folder with `train` and `val`, each with a folder of images a class. Its
    name is the folder's, and a few letters for the classes and how many images each has.

    Raises `UsageError` where they lack, or differ in their classes.
    """
    train_paths, test_paths = _scan(folder / "train", folder), _scan(folder / "val", folder)
    if train_paths.keys() != test_paths.keys():
        raise UsageError(
            f"{folder}: {len(train_paths)} classes in train, {len(test_paths)} in val, which must "
            f"be the same; only in train: {_lacking(test_paths, train_paths)}; "
            f"only in val: {_lacking(train_paths, test_paths)}"
        )
    train, test = _files(train_paths), _files(test_paths)
    kept, valid = held_out(train.labels, min(_VALIDATION, len(train) // 10))
    if not len(valid):
        raise UsageError(
            f"{folder / 'train'}: one image a class, and none to hold out for the architecture; "
            "two or more are wanted"
        )
    name = f"{folder.resolve().name}-{_contents(train_paths, test_paths)}"
    return Dataset(name, len(train_paths), _part(train, kept), _part(train, valid), test)


def _contents(*parts: dict[str, list[str]]) -> str:
    """A few letters that stand for the names of classes and their numbers of images."""
    return digest(f"{name}/{len(files)}" for part in parts for name, files in part.items())


def _lacking(classes: dict[str, list[str]], others: dict[str, list[str]]) -> str:
    """Names of the others that the classes lack."""
    names = sorted(others.keys() - classes.keys())
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "none"


def _scan(folder: Path, root: Path) -> dict[str, list[str]]:
    """Image files by class, in the order of their names. Links are followed, hidden files are
    not seen."""
    if not folder.is_dir():
        raise UsageError(
            f"{root}: no folder {folder.name} there; train/CLASS/*.JPEG and val/CLASS/*.JPEG are "
            "expected"
        )
    try:
        with os.scandir(folder) as entries:
            classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
        found = {name: _images(folder / name) for name in classes}
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not classes:
        raise UsageError(f"{folder}: no class folders there; CLASS/*.JPEG is expected")
    if empty := [name for name, files in found.items() if not files]:
        raise UsageError(f"{folder / empty[0]}: no images there ({', '.join(sorted(_SUFFIXES))})")
    return found


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if os.path.splitext(entry.name)[1].lower() in _SUFFIXES
            and not entry.name.startswith(".")
        )


def _files(by_class: dict[str, list[str]]) -> ImageFiles:
    paths = [path for files in by_class.values() for path in files]
    labels = [label for label, files in enumerate(by_class.values()) for _ in files]
    return ImageFiles(paths, np.array(labels, np.int64))


def _part(files: ImageFiles, index: Index) -> ImageFiles:
    return ImageFiles([files.paths[number] for number in index], files.labels[index])


def _batch(images: Sequence[Image.Image], labels: Sequence[int], resolution: int) -> Batch:
    pixels = np.empty((len(images), resolution, resolution, 3), np.float32)
    for place, image in zip(pixels, images, strict=True):  # one by one, each in the cache
        np.multiply(np.asarray(image), _SCALE, out=place)
        place -= _SHIFT
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.tensor(labels, dtype=torch.int64)
