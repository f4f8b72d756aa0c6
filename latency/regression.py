"""`fit`: from a table to a model that also predicts operators that the table lacks.

The logarithm of an operator's latency alone is the logarithm of a roofline (a sum over its inner
layers, `latency.roofline`) plus a Gaussian process (Rasmussen & Williams, 2006; Matern 5/2, one
length a feature, by the largest marginal likelihood under a weak prior) of what that gets wrong.
What it costs inside a network follows by the calibration of the nearest operator that was measured.

Intervals are conformal: scores of rows left out, each error in units of its own predicted
deviation, say how many deviations 95 % take (Papadopoulos, Gammerman & Vovk, 2008; Barber et al.,
Predictive inference with the jackknife+, 2021).

A model is a pure function of its table: no randomness, nothing stored.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.calibration import Calibration
from latency.errors import CoverageError, TableError
from latency.features import distances, place
from latency.model import PREDICTED, OpPrediction, Prediction
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.residuals import fit_process, tune
from latency.roofline import Roofline, solve, term_matrix
from latency.stats import coverage_factor, student_t
from latency.table import LatencyTable

Floats = NDArray[np.float64]

REACH = 2.0
"""An operator this many octaves or more (`features.distances`) from all of a table is refused."""

_FEWEST_ROWS = 5
_FOLDS, _STEPS_AGAIN = 6, 8
"""Of rows, and steps by which the kernel is tuned anew without one of them."""
_SHARED = 0.1
"""Least correlation between the errors of two predicted operators: the roofline's are common."""
_UNSEEN = 0.1
"""Half an interval (in logarithms) of an operator that has what no row has, or lacks what all
have, is this at least: no row left out could tell what it matters."""
_DOUBT = 0.35
"""Half an interval (in logarithms) grows by at least this an octave beyond what is covered."""


@dataclass(frozen=True)
class RegressionModel:
    """A `LatencyModel` that says of each operator whether it was `measured` or is `predicted`.

    `fit` makes it. `process` (a fitted Gaussian process) sees the `varying` features of an
    operator. `noise`: the variance that a measurement adds; `deviations`: how many predicted
    deviations half a 95 % interval takes.
    """

    table: LatencyTable
    extrapolate: bool
    roofline: Roofline
    process: Any
    varying: NDArray[np.bool_]
    deviations: float
    noise: float

    def predict(self, network: NetworkSpec) -> Prediction:
        """Latency of a network: the sum of its operators.

        The interval of what was measured is the table's. Errors of predicted operators are taken
        to be correlated as the Gaussian process has them, by a tenth at least, and never to
        cancel. Raises `CoverageError` with all operators that are out of reach.
        """
        self._require(network.ops)
        parts = {op: self.predict_op(op) for op in dict.fromkeys(network.ops)}
        per_op = tuple(parts[op] for op in network.ops)
        ms = sum(part.ms for part in per_op)
        half = self._half_of_predicted(per_op)
        measured = [part for part in per_op if part.op in self.table]
        if self.table.validations:
            half = math.hypot(half, ms * self.table.relative_ci95)
        else:
            half += sum(part.high_ms - part.ms for part in measured)
        return Prediction(ms, max(0.0, ms - half), ms + half, per_op)

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network.

        Raises `CoverageError` where it is neither in the table nor near to what is, with the
        nearest operator named; `extrapolate` predicts it all the same, with a wide interval.
        """
        if op in self.table:
            return self.table.predict_op(op)
        self._require([op])
        middle, half = self._log_alone([op])
        inside = self._calibration(op).in_network_ms
        ms, low, high = (inside(op, math.exp(middle[0] + s * half[0])) for s in (0, -1, 1))
        least = ms * self.table.relative_ci95
        return OpPrediction(
            op, ms, max(0.0, min(low, ms - least)), max(high, ms + least), PREDICTED
        )

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """Those of `ops` that are out of reach, each once, in order; none with `extrapolate`."""
        if self.extrapolate:
            return ()
        return tuple(op for op in self.table.missing(ops) if self.nearest(op)[1] >= REACH)

    def nearest(self, op: OpSpec) -> tuple[OpSpec, float]:
        """The operator of the table that is nearest, and how far it is (`features.distances`)."""
        far = distances(op, self._rows)
        index = int(far.argmin())
        return self._rows[index], float(far[index])

    @cached_property
    def _rows(self) -> tuple[OpSpec, ...]:
        return tuple(sorted(self.table, key=lambda op: op.key))

    def _require(self, ops: Iterable[OpSpec]) -> None:
        lacking = self.missing(ops)
        if lacking:
            near, _ = self.nearest(lacking[0])
            raise CoverageError(
                (op.key for op in lacking),
                f"{self.table.source}, even by regression,",
                f"far from all that was measured (nearest to {lacking[0].key}: {near.key}); "
                f"measure it: lat-profile --device {self.table.setting.device}, or predict it "
                "all the same: --extrapolate",
            )

    def _log_alone(self, ops: Sequence[OpSpec]) -> tuple[Floats, Floats]:
        """Logarithm of the ms alone, and half its 95 % interval, shape (operators,) each."""
        middle, covariance = self._posterior(ops)
        half = self.deviations * np.sqrt(np.diag(covariance))
        beyond = np.array([max(0.0, self.nearest(op)[1] - REACH) for op in ops])
        doubt = np.where(beyond > 0, _DOUBT * (1 + beyond), 0.0)
        alike = np.array([place(op) for op in ops]) == place(self._rows[0])
        unseen = ~(alike | self.varying).all(1)
        doubt = np.maximum(doubt, _UNSEEN * unseen)
        return middle, np.maximum(half, doubt)

    def _posterior(self, ops: Sequence[OpSpec]) -> tuple[Floats, Floats]:
        places = np.array([place(op) for op in ops])[:, self.varying]
        residual, covariance = self.process.predict(places, return_cov=True)
        np.fill_diagonal(covariance, np.maximum(np.diag(covariance), 0.0) + self.noise)
        return self.roofline.log_ms(ops) + residual, covariance

    def _half_of_predicted(self, parts: Sequence[OpPrediction]) -> float:
        """Half the interval of the sum of those operators that are predicted, in ms."""
        halves: dict[OpSpec, float] = {}
        for part in parts:
            if part.source == PREDICTED:
                half = (part.high_ms - part.low_ms) / 2
                halves[part.op] = halves.get(part.op, 0.0) + half
        if not halves:
            return 0.0
        _, covariance = self._posterior(list(halves))
        deviation = np.sqrt(np.diag(covariance))
        correlation = np.clip(covariance / np.outer(deviation, deviation), _SHARED, 1.0)
        summed = np.array(list(halves.values()))
        return math.sqrt(summed @ correlation @ summed)

    @cached_property
    def _calibrations(self) -> dict[OpSpec, Calibration]:
        """The calibration by which each row's in-network latency was found."""
        return {op: _calibration_of(self.table, op) for op in self._rows}

    def _calibration(self, op: OpSpec) -> Calibration:
        """That of the nearest row on inputs of the same size, which spaces of several
        resolutions rarely share; of the nearest row where no input has that size."""
        size = op.height, op.width
        elsewhere = np.array([(row.height, row.width) != size for row in self._rows])
        index = int((distances(op, self._rows) + 1e3 * elsewhere).argmin())
        return self._calibrations[self._rows[index]]


def fit(table: LatencyTable, *, extrapolate: bool = False) -> RegressionModel:
    """The regression model of a table; the same for the same table.

    `extrapolate`: predict operators far from all that was measured, too. Raises `TableError` for
    tables of fewer than five rows.
    """
    if len(table) < _FEWEST_ROWS:
        raise TableError(
            f"{table.source}: {len(table)} rows are too few for a regression; measure at least "
            f"{_FEWEST_ROWS} operators"
        )
    ops = sorted(table, key=lambda op: op.key)
    ms = np.array([table[op].median_ms for op in ops])
    noise = np.array([_noise(table[op].relative_ci95) for op in ops])
    roofline = Roofline.fit(ops, ms)
    places = np.array([place(op) for op in ops])
    varying = np.ptp(places, axis=0) > 1e-9
    places = places[:, varying]
    process = fit_process(places, np.log(ms) - roofline.log_ms(ops), noise)
    deviations = _conformal(_scores(ops, ms, roofline.sized, process.kernel_, places, noise))
    return RegressionModel(
        table, extrapolate, roofline, process, varying, deviations, float(np.median(noise))
    )


def _noise(relative_ci95: float) -> float:
    """Variance of a row's logarithm by its interval."""
    return 1e-8 + (min(relative_ci95, 1.0) / coverage_factor(1000)) ** 2


def _scores(
    ops: Sequence[OpSpec], ms: Floats, sized: bool, kernel: Any, places: Floats, noise: Floats
) -> Floats:
    """Errors of rows left out, in their predicted deviations; of those rows that the rest of the
    table covers. The roofline is fitted anew without each row, the kernel tuned anew without
    each fold of rows: a kernel that has seen a row flatters itself about it."""
    terms, amounts = term_matrix(ops, sized)
    residuals = np.log(ms / (amounts @ solve(terms, amounts, ms)[0]))
    folds = np.arange(len(ops)) % _FOLDS
    scores = []
    for fold in range(_FOLDS):
        kept = np.flatnonzero(folds != fold)
        tuned = tune(kernel, places[kept], residuals[kept], noise[kept], _STEPS_AGAIN)
        inverse = np.linalg.inv(tuned(places) + np.diag(noise))
        for row in np.flatnonzero(folds == fold).tolist():
            if _farness(ops, row) >= REACH:
                continue
            others = np.arange(len(ops)) != row
            costs = solve(terms, amounts[others], ms[others])[0]
            weighted = inverse[row] @ np.log(ms / (amounts @ costs))
            scores.append(abs(weighted) / math.sqrt(inverse[row, row]))
    return np.array(scores)


def _farness(ops: Sequence[OpSpec], row: int) -> float:
    """How far a row is from the nearest other one."""
    far = distances(ops[row], ops)
    far[row] = math.inf
    return float(far.min())


def _conformal(scores: Floats) -> float:
    """The 95 % quantile of scores as one more of them would have it; by Student's t where they
    are too few to have one, and four where there are hardly any."""
    count = len(scores)
    if count < 3:
        return 4.0
    rank = math.ceil(0.95 * (count + 1))
    if rank <= count:
        return float(np.sort(scores)[rank - 1])
    return max(float(scores.max()), student_t(count) * math.sqrt(np.mean(scores**2)))


def _calibration_of(table: LatencyTable, op: OpSpec) -> Calibration:
    alone = table[op].median_ms
    inside = table.in_network_ms.get(op, alone)
    known = [Calibration(), *table.calibrations.values()]
    return min(known, key=lambda one: abs(one.in_network_ms(op, alone) - inside))
