"""Training weights, and counting what a network gets right."""

import math
from collections.abc import Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from search.data import Split, evaluation_batches
from search.settings import SearchSettings

_EVALUATION_BATCH = 64


class WeightOptimizer:
    """SGD with Nesterov momentum and a cosine schedule over `total_steps`.

    Parameters without a gradient stand still: in a supernet, those of the paths not sampled.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        settings: SearchSettings,
        learning_rate: float,
        total_steps: int,
    ) -> None:
        parameters = list(parameters)
        matrices = [value for value in parameters if value.dim() > 1]
        vectors = [value for value in parameters if value.dim() <= 1]
        self.sgd = torch.optim.SGD(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            momentum=settings.momentum,
            nesterov=True,
        )
        self.learning_rate = learning_rate
        self.label_smoothing = settings.label_smoothing
        self.total_steps = total_steps

    def step(self, step: int, scores: Tensor, labels: Tensor) -> float:
        """Back-propagate the loss and move the weights; returns the loss."""
        loss = functional.cross_entropy(scores, labels, label_smoothing=self.label_smoothing)
        self.sgd.zero_grad(set_to_none=True)
        loss.backward()
        for group in self.sgd.param_groups:
            group["lr"] = cosine(self.learning_rate, step, self.total_steps)
        self.sgd.step()
        return float(loss.detach())


def cosine(peak: float, step: int, total_steps: int) -> float:
    """Learning rate falling from `peak` to zero along half a cosine, after a linear rise over
    the first twentieth of the steps."""
    rise = max(1, total_steps // 20)
    return peak * min(1.0, (step + 1) / rise) * (1 + math.cos(math.pi * step / total_steps)) / 2


@torch.no_grad()
def accuracy(module: nn.Module, split: Split, resolution: int) -> float:
    """Share of the split's images, of those that can be read, whose label gets the highest score,
    in evaluation mode."""
    module.eval()
    right = seen = 0
    for images, labels in evaluation_batches(split, _EVALUATION_BATCH, resolution):
        right += int((module(images).argmax(1) == labels).sum())
        seen += len(labels)
    module.train()
    return right / seen


@contextmanager
def seeded(seed: int):
    """Initialise modules from `seed`, leaving torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
