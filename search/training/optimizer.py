"""Training of weights, and evaluation of accuracy."""

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
    """Cosine annealing from 1 at `share` 0 to 0 at `share` 1 (Loshchilov & Hutter, SGDR, ICLR
    2017)."""
    return (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Cosines:
    """A learning rate schedule of half cosines: the peak and the number of steps of each. Each
    rises linearly over the first twentieth of its steps, and falls from its peak to zero."""

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
    """SGD with Nesterov momentum and a learning rate schedule.

    Parameters without a gradient (in a supernet, those of paths not sampled) are not updated.
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
        """Update the weights with this rank's part of a batch, and return the loss. Raises
        `LatError` for a loss that is not finite, before any update, and if memory runs out."""
        images, labels = self.compute.bring(images, labels)

        def attempt(size: int) -> float:
            self.sgd.zero_grad(set_to_none=True)
            with self.compute.autocast():
                scores = [forward(images[:size])]
            return self._backward(scores.pop(), labels[:size])  # frees memory that is short

        with explained(step, self.schedule.peak, len(labels), attempt, self.compute):
            loss = attempt(len(labels))
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
        if not self.scaler.is_enabled():  # it skips steps whose gradients overflow
            norms = [value.grad.norm() for value in self.parameters if value.grad is not None]
            finite(float(torch.stack(norms).norm()), "gradient of the training loss")
        return value

    @property
    def state(self) -> dict[str, Any]:
        return {"sgd": self.sgd.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint's state, of any precision."""
        self.sgd.load_state_dict(state["sgd"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


@torch.no_grad()
def accuracy(module: nn.Module, split: Split, resolution: int, workers: int = 0) -> float:
    """Top-1 accuracy, from 0 to 1, on the readable images of a split, in evaluation mode.
    `workers`: processes that prefetch images."""
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
    """Seed torch's global generator inside this context, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
