"""Fitness of a network with the supernet's weights, without training it."""

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
"""Validation images that score a network, at most."""

_PIXELS = 64 * 224**2
"""Pixels per forward pass: without gradients it takes less memory than a training step on a
quarter of them."""


def supernet_fitness(supernet: SuperNet, split: Split, resolution: int) -> Fitness:
    """A function from choices to the network's accuracy and loss on up to 512 images of the split,
    evenly spaced, since image folders are sorted by class.

    Large images are evaluated in equal parts of about 64 images of 224 pixels. Batch norm uses the
    statistics of these images, since the running ones average over paths (Guo et al., Single Path
    One-Shot NAS, ECCV 2020, section 3.4), and never communicates with other processes. The weights
    are shared with the supernet. Raises `LatError` if no image can be read; the function raises it
    if memory runs out.
    """
    device = supernet.alpha.device
    index = np.linspace(0, len(split), min(_IMAGES, len(split)), endpoint=False, dtype=np.int64)
    images, labels = split.evaluated(index, resolution)
    if not len(labels):
        path, why = next(iter(split.broken.items()))
        raise LatError(f"none of {len(index)} images can be evaluated, e.g. {path}: {why}")
    parts = math.ceil(len(labels) * resolution**2 / _PIXELS)
    batches = [(images[i::parts].to(device), labels[i::parts].to(device)) for i in range(parts)]
    twin = _with_batch_statistics(supernet)

    @torch.no_grad()
    def fitness(choices: Sequence[int]) -> tuple[float, float]:
        right, loss = 0, 0.0
        try:
            for batch, targets in batches:
                scores = twin(batch, choices)
                right += int((scores.argmax(1) == targets).sum())
                loss += len(targets) * float(functional.cross_entropy(scores, targets))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise LatError(
                f"out of memory when evaluating {len(batches[0][0])} images at once; use a smaller "
                "space or `resolution`, or `train_on` cpu"
            ) from None
        return right / len(labels), loss / len(labels)

    return fitness


def _with_batch_statistics(supernet: SuperNet) -> SuperNet:
    """A supernet that shares the weights, with plain batch norms that use and track no running
    statistics."""
    with torch.device("meta"):
        twin = SuperNet(supernet.space)
    twin.load_state_dict(supernet.state_dict(), assign=True)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    return twin
