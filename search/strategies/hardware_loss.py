"""`HardwareTerm`: the hardware term of the architecture loss, for one or several budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency.candidates import CandidateLatency
from latency.expected import ExpectedLatency
from search.budget import Budget
from search.strategies.penalties import Lagrangian, Penalty, make_penalty
from search.supernet.gates import gate_to_alpha_gradient


@dataclass(frozen=True)
class HardwareStep:
    """The hardware term in an architecture step.

    `expected`: the expected cost, and `multipliers`: the derivative of the loss by cost / limit,
    both by budget name. `task_weight`: the derivative of the loss by the task loss. `gradient`
    (blocks, candidates): the exact derivative of the term by the architecture parameters.
    """

    expected: Mapping[str, float]
    multipliers: Mapping[str, float]
    task_weight: float
    gradient: Tensor


class HardwareTerm:
    """Expected costs of a distribution over networks, and their penalties in the architecture loss:
    `penalty` (`search.settings.PENALTIES`) for the first budget, a `Lagrangian` for each of the
    others."""

    def __init__(self, budgets: Sequence[Budget], penalty: str = "lagrangian") -> None:
        first, *others = budgets
        self.budgets = tuple(budgets)
        self.expected = {b.name: ExpectedLatency(b.costs) for b in budgets}
        self.penalties: dict[str, Penalty] = {first.name: make_penalty(penalty, first.limit)}
        self.penalties |= {other.name: Lagrangian(other.limit) for other in others}

    def costs(self, probabilities: Tensor) -> dict[str, float]:
        """The expected cost by budget name, for path probabilities (blocks, candidates)."""
        exact = _exact(probabilities)
        return {name: float(model(exact)) for name, model in self.expected.items()}

    def step(self, probabilities: Tensor, task_loss: float) -> HardwareStep:
        """One step of every penalty, for path probabilities (blocks, candidates)."""
        expected, multipliers = self.costs(probabilities), {}
        exact = _exact(probabilities)
        task_weight = 1.0
        gradient = torch.zeros_like(exact)
        for budget in self.budgets:
            slope = self.penalties[budget.name].slope(task_loss, expected[budget.name])
            multipliers[budget.name] = slope.per_cost * budget.limit
            task_weight *= slope.task
            gradient += slope.per_cost * self.expected[budget.name].matrix
        by_alpha = gate_to_alpha_gradient(gradient, exact).to(probabilities)
        return HardwareStep(expected, multipliers, task_weight, by_alpha)

    def revise(self, name: str, costs: CandidateLatency) -> None:
        """Replace the costs of a budget; its limit stays."""
        self.budgets = tuple(
            replace(budget, costs=costs) if budget.name == name else budget
            for budget in self.budgets
        )
        self.expected[name] = ExpectedLatency(costs)

    @property
    def state(self) -> dict[str, Any]:
        return {
            name: {**self.penalties[name].state, "matrix": model.matrix, "fixed": model.fixed_ms}
            for name, model in self.expected.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        for budget in self.budgets:
            kept, costs = state[budget.name], budget.costs
            self.penalties[budget.name].restore(kept)
            matrix = np.where(np.isnan(costs.matrix), np.nan, kept["matrix"].numpy())
            self.revise(budget.name, replace(costs, fixed_ms=kept["fixed"], matrix=matrix))


def _exact(probabilities: Tensor) -> Tensor:
    return probabilities.detach().double().cpu()
