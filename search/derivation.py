"""Deriving a network: the most probable one within the budget, exactly."""

import numpy as np
from numpy.typing import NDArray

from latency.candidates import CandidateLatency
from latency.errors import UsageError
from latency.units import format_ms

_LEAST_UTILITY = -1e4
_TOLERANCE = 1e-7


def derive(
    utility: NDArray[np.float64],
    costs: CandidateLatency,
    budget_ms: float,
    at_least_ms: float = 0.0,
) -> tuple[int, ...]:
    """The choices with the largest sum of utilities whose predicted latency is within the budget
    (and, where `at_least_ms` is given, not below that).

    `utility` (blocks, candidates): for the most probable network, the log probabilities. Solved
    as a multiple-choice knapsack (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, ch. 11)
    by mixed-integer linear programming, to proven optimality. Raises `UsageError` where no
    network is within the budget.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    real = np.arange(costs.matrix.shape[1]) < costs.counts[:, None]
    rows = np.nonzero(real)[0]
    gain = np.maximum(np.nan_to_num(utility[real], nan=_LEAST_UTILITY), _LEAST_UTILITY)
    latency = costs.matrix[real]
    available = budget_ms - costs.fixed_ms
    one_each = (rows == np.arange(len(costs.counts))[:, None]).astype(float)
    # Latencies are scaled to the budget, where the solver's absolute tolerances make sense; the
    # bound is tightened by them, so that the solution is within the budget to the last digit.
    unit = max(available, 1e-9)
    lowest = (at_least_ms - costs.fixed_ms) / unit if at_least_ms > 0 else -np.inf
    solution = milp(
        -gain,
        integrality=np.ones(len(gain)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(latency[None] / unit, lowest, available / unit - _TOLERANCE),
        ],
        options={"mip_rel_gap": 0.0},
    )
    if solution.x is None:
        cheapest = np.nanargmin(costs.matrix, axis=1)
        if (
            at_least_ms <= costs.fastest_ms <= budget_ms
        ):  # the budget is the fastest network's latency itself
            return tuple(int(choice) for choice in cheapest)
        raise UsageError(
            f"no network between {format_ms(at_least_ms)} and {format_ms(budget_ms)}: the space "
            f"reaches from {format_ms(costs.fastest_ms)} to {format_ms(costs.slowest_ms)}"
        )
    picked = np.round(solution.x).astype(bool)
    columns = np.nonzero(real)[1][picked]
    return tuple(int(choice) for choice in columns)
