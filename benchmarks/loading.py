"""How many images a second are read and augmented."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from figure import Figure
from PIL import Image

from search.data import BatchStream, Split, evaluation_batches, load_dataset

_BATCH, _BATCHES = 64, 6
_CLASSES, _IMAGES = 4, 64
_WIDTH, _HEIGHT, _RESOLUTION = 500, 375, 224


def loading() -> Iterator[Figure]:
    """JPEGs of the size that ImageNet's have on average, cropped at random to 224 pixels, by
    worker processes with one thread each; first batches, with the start of the processes, left
    out. The images are smooth with some noise, so that files are as large as photographs."""
    with tempfile.TemporaryDirectory() as folder:
        mean_kb = _write(Path(folder))
        data = load_dataset(f"imagenet:{folder}")
        yield Figure("loading: mean size of a JPEG of 500x375", mean_kb, unit="kB")
        for workers in sorted({1, os.cpu_count() or 1}):
            rate = _rate(data.train, workers)
            yield Figure(f"  training images, {workers} worker(s)", rate, unit="images/s")
            yield Figure("    per worker", rate / workers, unit="images/s")
        start, seen = time.perf_counter(), 0
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for _, labels in evaluation_batches(data.test, _BATCH, _RESOLUTION):
            seen += len(labels)
        torch.set_num_threads(threads)
        rate = seen / (time.perf_counter() - start)
        yield Figure("  evaluation images, without workers", rate, unit="images/s")


def _rate(split: Split, workers: int) -> float:
    """Images a second from a stream whose worker processes are under way."""
    stream = BatchStream(split, _BATCH, (0,), _RESOLUTION, workers)
    first = 3 * workers  # what is read ahead before anyone asks for it
    for step in range(first):
        stream.at(step)
    start = time.perf_counter()
    count = _BATCHES * workers
    for step in range(first, first + count):
        stream.at(step)
    seconds = time.perf_counter() - start
    stream.close()
    return count * _BATCH / seconds


def _write(folder: Path) -> float:
    """Classes of images in `train` and `val`; the mean size of a file in kB."""
    generator = np.random.default_rng(0)
    sizes = []
    for part in ("train", "val"):
        for label in range(_CLASSES):
            (folder / part / str(label)).mkdir(parents=True)
            for number in range(_IMAGES // (1 if part == "train" else 2)):
                path = folder / part / str(label) / f"{number}.JPEG"
                _image(generator).save(path, quality=95)
                sizes.append(path.stat().st_size)
    return float(np.mean(sizes)) / 1000


def _image(generator: np.random.Generator) -> Image.Image:
    coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
    smooth = Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    noise = generator.normal(0, 8, (_HEIGHT, _WIDTH, 3))
    return Image.fromarray((np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8))
