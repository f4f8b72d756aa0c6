"""How good a network is with the supernet's weights, without training it."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from latency.errors import LatError
from search.data import Split
from search.derivation.evolution import Fitness
from search.supernet.supernet import SuperNet
from search.training.failures import is_out_of_memory

_IMAGES = 512
"""At most this many validation images score a network."""

_PIXELS = 64 * 224**2
"""So many pixels of images are computed at once: without gradients, they take less memory than a
training step on a quarter of them."""


def supernet_fitness(supernet: SuperNet, split: Split, resolution: int) -> Fitness:
    """A function of choices: accuracy and loss of their network on up to 512 of the split's
    images, spread evenly over it, as image folders go class by class.

    All of them are computed at once where they are small, up to 80 pixels wide, larger ones in
    equal parts of 64 of 224 pixels, each spread over the split again. Batch norm goes by the
    statistics of these images, as the running ones are those of a mix of paths (Guo et al., Single
    Path One-Shot NAS, ECCV 2020, section 3.4, recalibrate them). However the norms were trained, no
    other process is asked for its images. The weights are the supernet's own, and are left as they
    are. `LatError` where none of the images can be read, and, by the function, where memory is
    short.
    """
    device = supernet.alpha.device
    index = np.linspace(0, len(split), min(_IMAGES, len(split)), endpoint=False, dtype=np.int64)
    images, labels = split.evaluated(index, resolution)
    if not len(labels):
        path, why = next(iter(split.broken.items()))
        raise LatError(f"none of {len(index)} images can be evaluated, e.g. {path}: {why}")
    parts = math.ceil(len(labels) * resolution**2 / _PIXELS)
    shared = [(images[i::parts].to(device), labels[i::parts].to(device)) for i in range(parts)]
    alone = _by_the_images(supernet)

    @torch.no_grad()
    def fitness(choices: Sequence[int]) -> tuple[float, float]:
        right, loss = 0, 0.0
        for some, theirs in shared:
            scores = alone(some, choices)
            right += int((scores.argmax(1) == theirs).sum())
            loss += len(theirs) * float(functional.cross_entropy(scores, theirs))
        return right / len(labels), loss / len(labels)

    return _explained(fitness, len(shared[0][0]))


def _by_the_images(supernet: SuperNet) -> SuperNet:
    """The same weights under batch norms that go by the images at hand, and keep nothing of
    them."""
    with torch.device("meta"):
        alone = SuperNet(supernet.space)
    alone.load_state_dict(supernet.state_dict(), assign=True)
    for module in alone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    return alone


def _explained(fitness: Fitness, images: int) -> Fitness:
    """The function, which raises `LatError` where there is no memory for so many images."""

    def explained(choices: Sequence[int]) -> tuple[float, float]:
        try:
            return fitness(choices)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        raise LatError(
            f"out of memory for the {images} images that score a network at once; take a smaller "
            "space or resolution, or train on the CPU"
        )

    return explained
