"""`Strategy`, its base class and its optimizer of the architecture parameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.settings import SearchSettings
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.compute import ON_CPU, Compute
from search.training.optimizer import half_cosine

_BETA2, _EPSILON = 0.999, 1e-8


@dataclass(frozen=True)
class ArchitectureStep:
    """The validation batch's loss (of the paths that ran); the expected cost and the current
    multiplier, if there is one, by budget name."""

    task_loss: float
    expected: Mapping[str, float]
    multipliers: Mapping[str, float]


class Strategy(ABC):
    """Updates a supernet's `alpha` from validation batches, under a hardware term."""

    def __init__(
        self,
        supernet: SuperNet,
        hardware: HardwareTerm,
        settings: SearchSettings,
        compute: Compute = ON_CPU,
    ) -> None:
        self.supernet, self.hardware = supernet, hardware
        self.settings, self.compute = settings, compute
        self.optimizer = AlphaOptimizer(
            supernet.alpha, settings.arch_learning_rate, settings.arch_steps
        )

    @abstractmethod
    def step(
        self, images: Tensor, labels: Tensor, generator: np.random.Generator
    ) -> ArchitectureStep:
        """One architecture step on a validation batch."""

    @property
    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, without the supernet's."""
        return {"optimizer": self.optimizer.state, "hardware": self.hardware.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a checkpoint's state."""
        self.optimizer.restore(state["optimizer"])
        self.hardware.restore(state["hardware"])


class AlphaOptimizer:
    """Adam (Kingma & Ba, ICLR 2015) with beta1 = 0, as published for architecture parameters.

    Without a first moment the step is linear in the gradient for the rates that `rate` returns, so
    a strategy may apply parts of the gradient one by one. The learning rate falls to zero over
    `total_steps` along half a cosine; it is constant for None.
    """

    def __init__(self, alpha: Tensor, learning_rate: float, total_steps: int | None = None) -> None:
        self.learning_rate, self.total_steps = learning_rate, total_steps
        self.second_moment = torch.zeros_like(alpha)
        self.steps = 0

    def rate(self, gradient: Tensor) -> Tensor:
        """The step size of each entry of a gradient, in this step."""
        share = min(1.0, self.steps / self.total_steps) if self.total_steps else 0.0
        learning_rate = self.learning_rate * half_cosine(share)
        self.steps += 1
        self.second_moment.lerp_(gradient**2, 1 - _BETA2)
        corrected = self.second_moment / (1 - _BETA2**self.steps)
        return learning_rate / (corrected.sqrt() + _EPSILON)

    @property
    def state(self) -> dict[str, Any]:
        return {"second_moment": self.second_moment, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        self.second_moment.copy_(state["second_moment"])
        self.steps = state["steps"]
