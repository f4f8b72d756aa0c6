"""Images in folders named by their class, as ImageNet comes: `train/CLASS/...`, `val/CLASS/...`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from latency.errors import LatError, UsageError
from search.data.augmentation import centred, random_crop, read_image
from search.data.dataset import Batch, Dataset, Index, held_out, note_broken

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_VALIDATION = 50_000
"""Training images of ImageNet that are held out for the architecture, as in the paper; of a set
that is not ten times as large, a tenth."""
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What reading a broken image raises."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their labels, int64 (samples,), read when asked for.

    A file that cannot be read is left out: the next one of the split takes its place, with its
    own label. `broken`: those files, and why.
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
            image, label = self._read(number, resolution)
            images.append(random_crop(image, resolution, generator))
            labels.append(label)
        return _batch(images, labels)

    def evaluated(self, index: Index, resolution: int) -> Batch:
        read = [self._read(number, resolution) for number in index.tolist()]
        images = [centred(image, resolution) for image, _ in read]
        return _batch(images, [label for _, label in read])

    def _read(self, number: int, resolution: int) -> tuple[Image.Image, int]:
        """Image and label of this number, or of the next ones that can be read."""
        for turn in range(len(self)):
            current = (number + turn) % len(self)
            try:
                return read_image(self.paths[current], resolution), int(self.labels[current])
            except _BROKEN as error:
                note_broken(self.broken, self.paths[current], str(error))
        raise LatError(f"none of {len(self)} images can be read, e.g. {self.paths[number]}")


def image_folder(folder: Path) -> Dataset:
    """The data set in a folder with `train` and `val`, each with a folder of images a class.

    Raises `UsageError` where they lack, or differ in their classes.
    """
    train_paths, test_paths = _scan(folder / "train", folder), _scan(folder / "val", folder)
    names = sorted(train_paths)
    if names != sorted(test_paths):
        differing = sorted(set(train_paths) ^ set(test_paths))
        raise UsageError(
            f"{folder}: {len(train_paths)} classes in train, {len(test_paths)} in val, which must "
            f"be the same; only in one of them: {', '.join(differing[:3])}"
        )
    train, test = _files(train_paths), _files(test_paths)
    count = min(_VALIDATION, len(train) // 10)
    kept, valid = held_out(train.labels, count)
    return Dataset(folder.name, len(names), _part(train, kept), _part(train, valid), test)


def _scan(folder: Path, root: Path) -> dict[str, list[str]]:
    """Image files by class."""
    if not folder.is_dir():
        raise UsageError(
            f"{root}: no folder {folder.name} there; train/CLASS/*.JPEG and val/CLASS/*.JPEG are "
            "expected"
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    found = {
        path.name: sorted(str(file) for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        for path in classes
    }
    if not classes:
        raise UsageError(f"{folder}: no class folders there; CLASS/*.JPEG is expected")
    if empty := [name for name, files in found.items() if not files]:
        raise UsageError(f"{folder / empty[0]}: no images there ({', '.join(sorted(_SUFFIXES))})")
    return found


def _files(by_class: dict[str, list[str]]) -> ImageFiles:
    names = sorted(by_class)
    paths = [path for name in names for path in by_class[name]]
    labels = [label for label, name in enumerate(names) for _ in by_class[name]]
    return ImageFiles(paths, np.array(labels, np.int64))


def _part(files: ImageFiles, index: Index) -> ImageFiles:
    return ImageFiles([files.paths[number] for number in index], files.labels[index])


def _batch(images: Sequence[Image.Image], labels: Sequence[int]) -> Batch:
    pixels = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
    normalised = torch.from_numpy((pixels - _MEAN) / _STD)
    return normalised.permute(0, 3, 1, 2), torch.tensor(labels)
