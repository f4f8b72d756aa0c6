"""Proxyless-R: architecture parameters by REINFORCE (ProxylessNAS, 3.3.2, appendix B).

Several networks are sampled and scored on a validation batch with the supernet's weights, and

    dJ/dalpha = mean over networks of (reward - baseline) * d log p(network) / dalpha

(Williams, Machine Learning 8, 1992). The baseline is a moving average of rewards. Rewards:

lagrangian   accuracy; the expected costs enter through the penalties of Proxyless-G and their
             exact gradient (default: less variance, and converges to the budget)
mul          accuracy * product over budgets of (cost / budget) ** -w      (as published, w = 0.1)
log          log accuracy - sum over budgets of w * log(cost / budget)

The rewards `mul` and `log` use no penalty and have no multipliers.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from search.settings import SearchSettings
from search.strategies.base import ArchitectureStep, Strategy
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.compute import ON_CPU, Compute, widened
from search.training.failures import finite

_WEIGHT = 0.1
"""The exponent w of the rewards."""
_DECAY = 0.99
"""Of the baseline, an exponential moving average."""
_LEAST_ACCURACY = 1e-3
"""Lower bound of an accuracy whose logarithm is taken."""


class ProxylessR(Strategy):
    def __init__(
        self,
        supernet: SuperNet,
        hardware: HardwareTerm,
        settings: SearchSettings,
        compute: Compute = ON_CPU,
    ) -> None:
        rate = settings.reinforce_learning_rate or settings.arch_learning_rate
        super().__init__(supernet, hardware, replace(settings, arch_learning_rate=rate), compute)
        self.baseline: float | None = None

    def step(
        self, images: Tensor, labels: Tensor, generator: np.random.Generator
    ) -> ArchitectureStep:
        paths = [self.supernet.sample(generator) for _ in range(self.settings.reinforce_networks)]
        own = torch.stack([self._score(path, images, labels) for path in paths])
        losses, rights = self.compute.ranks.mean(own).unbind(1)
        task_loss = finite(float(losses.mean()), "validation loss")
        rewards = np.array(
            [self._reward(path, right) for path, right in zip(paths, rights.tolist(), strict=True)]
        )
        gradient = self._policy_gradient(paths, rewards)
        probabilities = self.supernet.probabilities
        if self.settings.reward == "lagrangian":
            seen = self.hardware.step(probabilities, task_loss)
            gradient = seen.task_weight * gradient + seen.gradient
            expected, multipliers = seen.expected, seen.multipliers
        else:
            expected, multipliers = self.hardware.costs(probabilities), {}
        with torch.no_grad():
            self.supernet.alpha.sub_(self.optimizer.rate(gradient) * gradient)
        return ArchitectureStep(task_loss, expected, multipliers)

    @torch.no_grad()
    def _score(self, path: Sequence[int], images: Tensor, labels: Tensor) -> Tensor:
        """Loss and accuracy (2,) of a network, with the batch's own batch norm statistics."""
        with self.compute.autocast():
            scores = widened(self.supernet(images, path))
        right = (scores.argmax(1) == labels).double().mean()
        return torch.stack([functional.cross_entropy(scores, labels).double(), right])

    def _reward(self, path: Sequence[int], accuracy: float) -> float:
        if self.settings.reward == "lagrangian":
            return accuracy
        excess = sum(
            math.log(budget.costs.predict(path)[0] / budget.limit)
            for budget in self.hardware.budgets
        )
        if self.settings.reward == "mul":
            return accuracy * math.exp(-_WEIGHT * excess)
        return math.log(max(accuracy, _LEAST_ACCURACY)) - _WEIGHT * excess

    def _policy_gradient(self, paths: Sequence[Sequence[int]], rewards: np.ndarray) -> Tensor:
        """Gradient of the negative expected reward by alpha; updates the baseline."""
        mean = float(rewards.mean())
        self.baseline = mean if self.baseline is None else self.baseline
        advantages = torch.tensor(rewards - self.baseline)
        self.baseline += (1 - _DECAY) * (mean - self.baseline)
        probabilities = self.supernet.probabilities.detach()
        taken = functional.one_hot(torch.tensor(paths), probabilities.shape[1])
        score = taken.to(probabilities) - probabilities
        weights = advantages.to(probabilities)[:, None, None]
        return -(weights * score).mean(0)

    @property
    def state(self) -> dict[str, Any]:
        return {**super().state, "baseline": self.baseline}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.baseline = state["baseline"]
