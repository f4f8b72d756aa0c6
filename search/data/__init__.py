"""Data sets for the search: labelled images, split for weights, architecture and a final test."""

from pathlib import Path

from latency.errors import UsageError, extra, unknown_name
from search.data.batches import BatchStream, draw_batch, evaluation_batches
from search.data.cifar10 import cifar10
from search.data.dataset import Dataset, Split
from search.data.digits import digits

__all__ = [
    "BatchStream",
    "Dataset",
    "Split",
    "draw_batch",
    "evaluation_batches",
    "load_dataset",
]

KNOWN = ("digits", "cifar10", "imagenet")


def load_dataset(data: str) -> Dataset:
    """`digits`, `cifar10:FOLDER` (the binary version), or `imagenet:FOLDER`
    (train/CLASS/*.JPEG and val/CLASS/*.JPEG).

    Raises `UsageError` for an unknown name, and for a folder that is missing or incomplete.
    """
    name, _, folder = data.partition(":")
    if name not in KNOWN:
        raise unknown_name("data set", name, KNOWN)
    if name == "digits":
        return digits()
    if not folder:
        raise UsageError(f"`data` {name}: give its folder, e.g. {name}:FOLDER")
    if not Path(folder).is_dir():
        raise UsageError(f"`data` {data}: {folder} is not a folder")
    if name == "cifar10":
        return cifar10(Path(folder))
    with extra("train"):
        from search.data.image_folder import image_folder
    return image_folder(Path(folder))
