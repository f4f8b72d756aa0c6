"""`HardwareTerm`: the hardware's part of the architecture loss, over one or several budgets."""

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
    """What the hardware says in an architecture step.

    `expected`: the expected cost, `multipliers`: the derivative of the loss by that cost as a
    share of its limit, both by the budget's name. `task_weight`: the loss's derivative by the task
    loss. `gradient` (blocks, candidates): its derivative by the architecture parameters, exact.
    """

    expected: Mapping[str, float]
    multipliers: Mapping[str, float]
    task_weight: float
    gradient: Tensor


class HardwareTerm:
    """Expected costs of a distribution over networks, and how the architecture loss depends on
    them: by `penalty` (`search.settings.PENALTIES`) on the first budget, by a multiplier of its
    own (`search.strategies.penalties.Lagrangian`) on each further one."""

    def __init__(self, budgets: Sequence[Budget], penalty: str = "lagrangian") -> None:
        first, *others = budgets
        self.budgets = tuple(budgets)
        self.expected = {b.name: ExpectedLatency(b.costs) for b in budgets}
        self.penalties: dict[str, Penalty] = {first.name: make_penalty(penalty, first.limit)}
        self.penalties |= {other.name: Lagrangian(other.limit) for other in others}

    def costs(self, probabilities: Tensor) -> dict[str, float]:
        """The expected cost by each budget's name, at path probabilities (blocks, candidates)."""
        exact = _exact(probabilities)
        return {name: float(model(exact)) for name, model in self.expected.items()}

    def step(self, probabilities: Tensor, task_loss: float) -> HardwareStep:
        """One step of every penalty, at path probabilities (blocks, candidates)."""
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
        """Go by other costs for the budget of this name; its limit stays."""
        self.budgets = tuple(
            replace(budget, costs=costs) if budget.name == name else budget
            for budget in self.budgets
        )
        self.expected[name] = ExpectedLatency(costs)

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {
            name: {**penalty.state, "matrix": self.expected[name].matrix}
            | {"fixed": self.expected[name].fixed_ms}
            for name, penalty in self.penalties.items()
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state that a checkpoint kept."""
        for budget in self.budgets:
            kept, costs = state[budget.name], budget.costs
            self.penalties[budget.name].restore(kept)
            matrix = np.where(np.isnan(costs.matrix), np.nan, kept["matrix"].numpy())
            self.revise(budget.name, replace(costs, fixed_ms=kept["fixed"], matrix=matrix))


def _exact(probabilities: Tensor) -> Tensor:
    return probabilities.detach().double().cpu()
