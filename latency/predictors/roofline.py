"""`Roofline`: latency as a sum over physical terms, fitted to measured operators."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.operators.features import Term, family, physical_terms, typical_cost
from latency.operators.spec import OpSpec

Floats = NDArray[np.float64]

_PULL = 2e-3
"""Weight of the usual balance, relative to that of all rows."""
_SIZED_GAIN = 2.0


@dataclass(frozen=True)
class Roofline:
    """The cost of each physical term (`latency.operators.features`), in ms per unit.

    `scale`: ms of a million usual multiply-accumulates. `sized`: depthwise kernels of each size
    have costs of their own.
    """

    costs: dict[Term, float]
    scale: float
    sized: bool = False

    @classmethod
    def fit(cls, ops: Sequence[OpSpec], ms: Floats) -> "Roofline":
        """The roofline of measured operators; `ms` (operators,).

        Depthwise kernels of each size get their own costs only if that halves the error: a runtime
        without fast code for 7x7 takes ten times as long for it.
        """
        (common, worse), (own, better) = (cls._fit(ops, ms, sized) for sized in (False, True))
        return own if better * _SIZED_GAIN < worse else common

    @classmethod
    def _fit(cls, ops: Sequence[OpSpec], ms: Floats, sized: bool) -> "tuple[Roofline, float]":
        """The roofline and its root mean squared error, in logarithms."""
        terms, amounts = term_matrix(ops, sized)
        costs, scale = solve(terms, amounts, ms)
        errors = np.log(amounts @ costs / ms)
        line = cls(dict(zip(terms, costs.tolist(), strict=True)), scale, sized)
        return line, float(np.sqrt(np.mean(errors**2)))

    def log_ms(self, ops: Sequence[OpSpec]) -> Floats:
        """Logarithm of each operator's ms, shape (operators,)."""
        terms = [physical_terms(op, self.sized).items() for op in ops]
        return np.log([sum(amount * self._cost(term) for term, amount in one) for one in terms])

    def _cost(self, term: Term) -> float:
        """Cost of a term; if no row had it, the mean of its family, or else the usual cost."""
        if term in self.costs:
            return self.costs[term]
        kin = [
            cost
            for (role, what), cost in self.costs.items()
            if what == term[1] and family(role) == family(term[0])
        ]
        return float(np.mean(kin)) if kin else self.scale * typical_cost(term)


def term_matrix(ops: Sequence[OpSpec], sized: bool) -> tuple[list[Term], Floats]:
    """The terms of operators, and their amounts, (operators, terms)."""
    counted = [physical_terms(op, sized) for op in ops]
    terms = sorted({term for each in counted for term in each})
    return terms, np.array([[each.get(term, 0.0) for term in terms] for each in counted])


def solve(terms: Sequence[Term], amounts: Floats, ms: Floats) -> tuple[Floats, float]:
    """Costs (terms,) that fit `ms` (operators,) by `amounts` (operators, terms), and the scale of
    the usual ones.

    Non-negative least squares on relative errors, with a weak ridge towards the usual balance of a
    processor for terms that the rows do not separate.
    """
    from scipy.optimize import nnls

    typical = np.array([typical_cost(term) for term in terms])
    relative = amounts * typical / ms[:, None]
    scale = 1 / float(np.median(relative.sum(1)))
    pull = math.sqrt(_PULL * len(ms))
    design = np.vstack([relative * scale, pull * np.eye(len(terms))])
    wanted = np.concatenate([np.ones(len(ms)), np.full(len(terms), pull)])
    multiples, _ = nnls(design, wanted)
    return multiples * typical * scale, scale
