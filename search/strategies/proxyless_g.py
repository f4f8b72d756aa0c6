"""Proxyless-G: architecture parameters by gradient through binary gates (ProxylessNAS, 3.2, 3.3).

two    two paths per block are sampled; only their parameters are updated, and then shifted so that
       the unsampled paths keep their probability
full   every candidate has a gate
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from search.strategies.base import ArchitectureStep, Strategy
from search.supernet.gates import gate_to_alpha_gradient
from search.training.compute import widened
from search.training.failures import finite


class ProxylessG(Strategy):
    """The step of the optimizer has two parts: the task's, after which `two` shifts the sampled
    paths, and the hardware's, whose gradient is exact and updates every path."""

    def step(
        self, images: Tensor, labels: Tensor, generator: np.random.Generator
    ) -> ArchitectureStep:
        sampled, active = self._sample(generator)
        task_loss, task_gradient = self._task_gradient(images, labels, sampled, active)
        seen = self.hardware.step(self.supernet.probabilities, task_loss)
        self._update(seen.task_weight * task_gradient, seen.gradient, sampled)
        return ArchitectureStep(task_loss, seen.expected, seen.multipliers)

    def _sample(self, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
        """`sampled` and `active` of `SuperNet.forward_gated`."""
        probabilities = self.supernet.probabilities.detach().double().cpu().numpy()
        width = 2 if self.settings.binarisation == "two" else probabilities.shape[1]
        sampled = np.full((len(probabilities), width), -1)
        active = np.zeros(len(probabilities), int)
        for row, mask in enumerate(self.supernet.mask.cpu().numpy()):
            candidates = np.flatnonzero(mask)
            p = probabilities[row, candidates] / probabilities[row, candidates].sum()
            if self.settings.binarisation == "two" and len(candidates) > 1:
                chosen = _without_replacement(p, generator)
            else:
                chosen = np.arange(len(candidates))
            sampled[row, : len(chosen)] = candidates[chosen]
            active[row] = generator.choice(len(chosen), p=p[chosen] / p[chosen].sum())
        return torch.from_numpy(sampled), torch.from_numpy(active)

    def _task_gradient(
        self, images: Tensor, labels: Tensor, sampled: Tensor, active: Tensor
    ) -> tuple[float, Tensor]:
        """Validation loss, and its gradient with respect to alpha (blocks, candidates)."""
        alpha = self.supernet.alpha.detach()
        gates = torch.zeros_like(sampled, dtype=alpha.dtype, device=alpha.device).requires_grad_()
        with self.compute.autocast():
            scores = self.supernet.forward_gated(images, gates, sampled, active)
        loss = functional.cross_entropy(widened(scores), labels)
        scale, mean = self.compute.gate_scale, self.compute.ranks.mean
        (own_gradient,) = torch.autograd.grad(scale * loss, gates)
        gate_gradient = mean(own_gradient / scale)
        task_loss = finite(float(mean(loss.detach())), "validation loss")
        finite(float(gate_gradient.norm()), "gradient of the validation loss")
        sampled = sampled.to(alpha.device)
        has_gate = sampled >= 0
        logits = alpha.gather(1, sampled.clamp(min=0)).masked_fill(~has_gate, -torch.inf)
        among_sampled = gate_to_alpha_gradient(gate_gradient, logits.softmax(-1))
        gradient = torch.zeros_like(alpha)
        gradient.scatter_add_(1, sampled.clamp(min=0), among_sampled.masked_fill(~has_gate, 0))
        return task_loss, gradient

    @torch.no_grad()
    def _update(self, task: Tensor, hardware: Tensor, sampled: Tensor) -> None:
        rate = self.optimizer.rate(task + hardware)
        alpha = self.supernet.alpha
        moved = alpha - rate * task
        if self.settings.binarisation == "two":
            moved = keep_mass(alpha, moved, sampled.to(alpha.device))
        alpha.copy_(moved - rate * hardware)


def keep_mass(before: Tensor, after: Tensor, sampled: Tensor) -> Tensor:
    """Shift the sampled entries of each row of `after` by one amount, so that their exponentials
    have the sum of `before`, and the unsampled paths keep their probability."""
    has_gate = sampled >= 0
    index = sampled.clamp(min=0)
    old, new = (
        values.gather(1, index).masked_fill(~has_gate, -torch.inf) for values in (before, after)
    )
    shift = old.logsumexp(1, keepdim=True) - new.logsumexp(1, keepdim=True)
    return after.scatter_add(1, index, torch.where(has_gate, shift, 0.0))


def _without_replacement(p: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Two different candidates, drawn one after the other from `p`."""
    first = generator.choice(len(p), p=p)
    rest = p.copy()
    rest[first] = 0
    total = rest.sum()
    if total > 0:
        return np.array([first, generator.choice(len(p), p=rest / total)])
    return np.array([first, (first + 1) % len(p)])
