"""Data sets for the search: labelled images, split for weights, architecture and a last check."""

from collections.abc import Callable
from pathlib import Path

from latency.errors import UsageError, extra, unknown_name
from search.data.batches import WHOLE, BatchStream, Part, draw_batch, evaluation_batches
from search.data.dataset import Batch, Dataset, Split
from search.data.digits import digits

__all__ = [
    "WHOLE",
    "Batch",
    "BatchStream",
    "Dataset",
    "Part",
    "Split",
    "draw_batch",
    "evaluation_batches",
    "load_dataset",
]


def _cifar10(folder: Path) -> Dataset:
    from search.data.cifar10 import cifar10

    return cifar10(folder)


def _image_folder(folder: Path) -> Dataset:
    with extra("train"):
        from search.data.image_folder import image_folder
    return image_folder(folder)


_IN_FOLDERS: dict[str, Callable[[Path], Dataset]] = {
    "cifar10": _cifar10,
    "imagefolder": _image_folder,
    "imagenet": _image_folder,
}
"""Data sets that are read from a folder of the user's."""

KNOWN = ("digits", *_IN_FOLDERS)


def load_dataset(words: str) -> Dataset:
    """`digits`, `cifar10:FOLDER` (the binary version's files), or `imagenet:FOLDER` (also
    `imagefolder:FOLDER`: train/CLASS/*.JPEG and val/CLASS/*.JPEG).

    Raises `UsageError` that lists the known ones, or says what is expected in the folder.
    """
    name, _, folder = words.partition(":")
    if name not in KNOWN:
        raise unknown_name("data set", name, KNOWN)
    if name == "digits":
        return digits()
    if not folder:
        raise UsageError(f"--data {name}: say where it is, e.g. {name}:FOLDER")
    if not Path(folder).is_dir():
        raise UsageError(f"--data {words}: there is no folder {folder}")
    return _IN_FOLDERS[name](Path(folder))
