"""What every strategy is: `Strategy`, what it reports of a step, and how it moves alpha."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from search.training.optimizer import half_cosine


@dataclass(frozen=True)
class ArchitectureStep:
    """What an architecture step saw: the validation batch's loss (of the paths that ran), and by
    the name of each budget, the expected cost and the multiplier in force, if there is one."""

    task_loss: float
    expected: Mapping[str, float]
    multipliers: Mapping[str, float]


class Strategy(Protocol):
    """Updates a supernet's `alpha` from validation batches."""

    def step(
        self, images: Tensor, labels: Tensor, generator: np.random.Generator
    ) -> ArchitectureStep:
        """One architecture step on a validation batch."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep besides the supernet."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that a checkpoint kept."""
        ...


class AlphaOptimizer:
    """Adam (Kingma & Ba, ICLR 2015) with beta1 = 0, as published for architecture parameters.

    Without a first moment its step is linear in the gradient once `rate` has seen the whole of it,
    so that a strategy may apply parts of the gradient one after the other. The learning rate falls
    to zero over `total_steps` along half a cosine; it stays what it is where these are None.
    """

    def __init__(
        self,
        alpha: Tensor,
        learning_rate: float = 1e-3,
        total_steps: int | None = None,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.learning_rate, self.total_steps = learning_rate, total_steps
        self.beta2, self.epsilon = beta2, epsilon
        self.second_moment = torch.zeros_like(alpha)
        self.steps = 0

    def rate(self, gradient: Tensor) -> Tensor:
        """By what each entry of a gradient is to be multiplied in this step."""
        share = min(1.0, self.steps / self.total_steps) if self.total_steps else 0.0
        learning_rate = self.learning_rate * half_cosine(share)
        self.steps += 1
        self.second_moment.lerp_(gradient**2, 1 - self.beta2)
        corrected = self.second_moment / (1 - self.beta2**self.steps)
        return learning_rate / (corrected.sqrt() + self.epsilon)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"second_moment": self.second_moment, "steps": self.steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that a checkpoint kept."""
        self.second_moment.copy_(state["second_moment"])
        self.steps = state["steps"]
