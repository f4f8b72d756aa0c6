"""How good a network is with the supernet's weights, without training it."""

from collections.abc import Sequence

import torch
from torch.nn import functional

from search.data import Split, evaluation_batches
from search.evolution import Fitness
from search.supernet import SuperNet

_IMAGES = 512
"""At most this many validation images score a network."""


def supernet_fitness(supernet: SuperNet, split: Split, resolution: int) -> Fitness:
    """A function of choices: accuracy and loss of their network on the split's first images.

    Batch norm goes by the statistics of these images, as the running ones are those of a mix of
    paths (Guo et al., Single Path One-Shot NAS, ECCV 2020, section 3.4, recalibrate them).
    """
    ((images, labels),) = evaluation_batches(split, _IMAGES, resolution, most=_IMAGES)
    images, labels = (part.to(supernet.alpha.device) for part in (images, labels))

    @torch.no_grad()
    def fitness(choices: Sequence[int]) -> tuple[float, float]:
        supernet.train()
        scores = supernet(images, choices)
        right = (scores.argmax(1) == labels).float().mean()
        return float(right), float(functional.cross_entropy(scores, labels))

    return fitness
