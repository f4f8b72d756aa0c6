"""Derivation: the most probable network within the budgets, solved exactly."""

import ctypes
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.candidates import CandidateLatency
from latency.errors import InfeasibleError, LatError
from latency.units import format_ms

_LEAST_UTILITY = -1e4
_TOLERANCE = 1e-7
_OPTIMAL, _INFEASIBLE, _FAILED = 0, 2, 4
"""Statuses of `scipy.optimize.milp`."""
_SWAP = Lock()


def derive(
    utility: NDArray[np.float64],
    costs: CandidateLatency,
    budget_ms: float,
    at_least_ms: float = 0.0,
    others: Sequence[tuple[CandidateLatency, float]] = (),
) -> tuple[int, ...]:
    """The choices with the largest sum of utilities whose predicted latency is between
    `at_least_ms` and `budget_ms`, and whose `others` (costs, limit) are within their limits.

    A candidate whose cost is NaN is never chosen.

    `utility` (blocks, candidates): log probabilities, for the most probable network. Solved as a
    multiple-choice knapsack problem (Kellerer, Pferschy, Pisinger, Knapsack Problems, 2004, ch. 11)
    by mixed-integer linear programming, to proven optimality. Raises `InfeasibleError` if no
    network is within the budgets, and `LatError` if the solver stops without a proof.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    every = [costs, *(other for other, _ in others)]
    real = np.isfinite(sum(one.matrix for one in every))
    rows, columns = np.nonzero(real)
    gain = np.maximum(np.nan_to_num(utility[real], nan=_LEAST_UTILITY), _LEAST_UTILITY)
    one_each = (rows == np.arange(len(costs.counts))[:, None]).astype(float)
    problem = {
        "integrality": np.ones(len(gain)),
        "bounds": Bounds(0, 1),
        "constraints": [
            LinearConstraint(one_each, 1, 1),
            _within(costs, real, budget_ms, at_least_ms),
            *(_within(other, real, limit) for other, limit in others),
        ],
    }
    options = {"mip_rel_gap": 0.0, "disp": False}
    with _c_prints_to_stderr():
        solution = milp(-gain, **problem, options=options)
        if solution.status == _FAILED:  # occasionally, after the presolve of HiGHS
            solution = milp(-gain, **problem, options={**options, "presolve": False})
    if (picked := _optimal(solution)) is not None:
        return tuple(int(choice) for choice in columns[picked])
    cheapest = fastest_within(costs)
    fits = all(other.predict(cheapest)[0] <= limit for other, limit in others)
    if fits and at_least_ms <= costs.fastest_ms <= budget_ms:
        return cheapest  # the budget equals the fastest network's latency
    raise InfeasibleError(
        f"no network between {format_ms(at_least_ms)} and {format_ms(budget_ms)}"
        f"{' within the other budgets' if others else ''}: the space "
        f"reaches from {format_ms(costs.fastest_ms)} to {format_ms(costs.slowest_ms)}"
    )


def fastest_within(
    costs: CandidateLatency, others: Sequence[tuple[CandidateLatency, float]] = ()
) -> tuple[int, ...]:
    """The choices of the least predicted latency whose `others` (costs, limit) are within their
    limits. Raises `InfeasibleError` if there are none."""
    if not others:
        return tuple(int(choice) for choice in np.nanargmin(costs.matrix, axis=1))
    utility = -costs.matrix / np.nanmax(np.abs(costs.matrix))
    return derive(utility, costs, 2 * costs.slowest_ms, others=others)


@contextmanager
def _c_prints_to_stderr() -> Iterator[None]:
    """Redirect C's stdout to stderr: HiGHS prints when it fails, even with `disp` off, which would
    corrupt JSON output. File descriptors and Python's output are not affected. Needs glibc; does
    nothing without it."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    out, err = (ctypes.c_void_p.in_dll(libc, name) for name in ("stdout", "stderr"))
    with _SWAP:
        kept, out.value = out.value, err.value
        try:
            yield
        finally:
            out.value = kept


def _optimal(solution: Any) -> NDArray[np.bool_] | None:
    """The variables that are 1; None if the problem is infeasible. Raises `LatError` if the solver
    stopped for another reason."""
    if solution.status == _INFEASIBLE:
        return None
    if solution.status != _OPTIMAL:
        raise LatError(f"the solver of the derivation failed: {solution.message}")
    return np.round(solution.x).astype(bool)


def _within(costs: CandidateLatency, real: NDArray[np.bool_], most: float, least: float = 0.0):
    """The constraint least <= cost <= most. Costs are scaled to the budget, since the solver's
    tolerances are absolute, and the bound is tightened by the tolerance."""
    from scipy.optimize import LinearConstraint

    available = most - costs.fixed_ms
    unit = max(available, 1e-9)
    lowest = (least - costs.fixed_ms) / unit if least > 0 else -np.inf
    return LinearConstraint(costs.matrix[real][None] / unit, lowest, available / unit - _TOLERANCE)


@dataclass(frozen=True)
class MostProbable:
    """Chooses the network of the largest `utility` (log probabilities) for given limits of the
    `costs`, if possible at most the share `band` below the first limit."""

    utility: NDArray[np.float64]
    costs: Sequence[CandidateLatency]
    band: float = 0.025

    def __call__(self, limits: Sequence[float]) -> tuple[int, ...]:
        """The most probable network in the band below the first limit, or else below it; the
        fastest if none is. Raises `InfeasibleError` if no network is within the other limits."""
        first, *others = self.costs
        aim = max(limits[0], first.fastest_ms)
        rest = list(zip(others, limits[1:], strict=True))
        try:
            return derive(self.utility, first, aim, aim * (1 - self.band), rest)
        except InfeasibleError:
            return derive(self.utility, first, aim, others=rest)
