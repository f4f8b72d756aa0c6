"""Training weights, and counting what a network gets right."""

import math
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from search.data import Split, evaluation_batches
from search.settings import SearchSettings
from search.training.compute import ON_CPU, Compute, widened
from search.training.failures import explained, finite

_EVALUATION_BATCH = 64


def half_cosine(share: float) -> float:
    """From 1 at the start to 0 where a share of 1 is over: the annealing of SGDR (Loshchilov &
    Hutter, ICLR 2017), without its restarts."""
    return (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Cosines:
    """Learning rates of half cosines, one after the other: the peak and the steps of each. Each
    falls from its peak to zero, after a linear rise over the first twentieth of its steps."""

    parts: tuple[tuple[float, int], ...]

    @property
    def peak(self) -> float:
        return max(peak for peak, _ in self.parts)

    def at(self, step: int) -> float:
        """The learning rate of a step."""
        for peak, steps in self.parts:
            if step < steps:
                rise = min(1.0, (step + 1) / max(1, steps // 20))
                return peak * rise * half_cosine(step / steps)
            step -= steps
        return 0.0


class WeightOptimizer:
    """SGD with Nesterov momentum at the rates of a schedule.

    Parameters without a gradient stand still: in a supernet, those of the paths not sampled.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        settings: SearchSettings,
        schedule: Cosines,
        compute: Compute = ON_CPU,
    ) -> None:
        self.parameters = list(parameters)
        self.compute, self.scaler = compute, compute.scaler()
        matrices = [value for value in self.parameters if value.dim() > 1]
        vectors = [value for value in self.parameters if value.dim() <= 1]
        self.sgd = torch.optim.SGD(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=schedule.peak,
            momentum=settings.momentum,
            nesterov=True,
        )
        self.schedule = schedule
        self.label_smoothing = settings.label_smoothing

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return self.sgd.param_groups[0]["lr"]

    def step(
        self, step: int, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor
    ) -> float:
        """Move the weights by this rank's part of a batch; returns the loss. Raises `LatError`,
        before any weight is moved, for a loss that is no number, and where memory is short."""
        images, labels = self.compute.bring(images, labels)

        def attempt(size: int) -> None:
            self.sgd.zero_grad(set_to_none=True)
            with self.compute.autocast():
                scores = forward(images[:size])
            self._backward(scores, labels[:size])

        ranks, in_groups_of = self.compute.ranks, self.compute.norm_batch_size
        with explained(step, self.schedule.peak, len(labels), attempt, ranks, in_groups_of):
            self.sgd.zero_grad(set_to_none=True)
            with self.compute.autocast():
                scores = [forward(images)]
            loss = self._backward(scores.pop(), labels)  # nothing is held where memory is short
            for group in self.sgd.param_groups:
                group["lr"] = self.schedule.at(step)
            self.scaler.step(self.sgd)
            self.scaler.update()
        return loss

    def _backward(self, scores: Tensor, labels: Tensor) -> float:
        """Back-propagate the loss over all ranks' parts of a batch; returns that loss.
        `DivergedError` where it or a gradient is not a finite number."""
        smoothing = self.label_smoothing
        loss = functional.cross_entropy(widened(scores), labels, label_smoothing=smoothing)
        self.scaler.scale(loss).backward()
        self.compute.ranks.average_gradients(self.parameters)
        value = finite(float(self.compute.ranks.mean(loss.detach())), "training loss")
        if not self.scaler.is_enabled():  # which leaves out steps whose gradients are too large
            norms = [value.grad.norm() for value in self.parameters if value.grad is not None]
            finite(float(torch.stack(norms).norm()), "gradient of the training loss")
        return value

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"sgd": self.sgd.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that a checkpoint kept, of whichever precision."""
        self.sgd.load_state_dict(state["sgd"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


@torch.no_grad()
def accuracy(module: nn.Module, split: Split, resolution: int, workers: int = 0) -> float:
    """Share of the split's images, of those that can be read, whose label gets the highest score,
    in evaluation mode. `workers`: processes that read images ahead."""
    module.eval()
    device = next(module.parameters(), torch.empty(0)).device
    right = seen = 0
    for images, labels in evaluation_batches(split, _EVALUATION_BATCH, resolution, workers=workers):
        scores = module(images.to(device))
        right += int((scores.argmax(1) == labels.to(device)).sum())
        seen += len(labels)
    module.train()
    return right / seen


@contextmanager
def seeded(seed: int):
    """Initialise modules from `seed`, leaving torch's own generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
