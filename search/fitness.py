"""How good a network is with the supernet's weights, without training it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from latency.errors import LatError
from search.data import Split
from search.evolution import Fitness
from search.supernet import SuperNet
from search.training import seeded

_IMAGES = 512
"""At most this many validation images score a network."""


def supernet_fitness(supernet: SuperNet, split: Split, resolution: int) -> Fitness:
    """A function of choices: accuracy and loss of their network on up to 512 of the split's
    images, spread evenly over it, as image folders go class by class.

    Batch norm goes by the statistics of these images, as the running ones are those of a mix of
    paths (Guo et al., Single Path One-Shot NAS, ECCV 2020, section 3.4, recalibrate them). However
    the norms were trained, no other process is asked for its images. `LatError` where none of the
    images can be read.
    """
    device = supernet.alpha.device
    index = np.linspace(0, len(split), min(_IMAGES, len(split)), endpoint=False, dtype=np.int64)
    images, labels = (part.to(device) for part in split.evaluated(index, resolution))
    if not len(labels):
        path, why = next(iter(split.broken.items()))
        raise LatError(f"none of {len(index)} images can be evaluated, e.g. {path}: {why}")
    with seeded(0):
        alone = SuperNet(supernet.space)
    alone.load_state_dict(supernet.state_dict())
    alone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def fitness(choices: Sequence[int]) -> tuple[float, float]:
        scores = alone(images, choices)
        right = (scores.argmax(1) == labels).float().mean()
        return float(right), float(functional.cross_entropy(scores, labels))

    return fitness
