"""`fit`: from a table to a model that also predicts operators that the table lacks.

What an operator takes alone is predicted by the cost model of its family
(`latency.predictors.families`); what it costs inside a network follows by the calibration of the
nearest operator that was measured.

A model is a pure function of its table: no randomness, nothing stored.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from latency.errors import CoverageError, TableError
from latency.graphs.fusion import SUITE
from latency.graphs.kernels import Network
from latency.graphs.non_square import DOUBT, Between
from latency.operators.features import Neighbours, kernel_family
from latency.operators.spec import OpSpec
from latency.prediction import PREDICTED, OpPrediction, Prediction
from latency.predictors.families import REACH, Family, Floats, fit_family
from latency.stats import coverage_factor
from latency.tables.calibration import Calibration
from latency.tables.table import LatencyTable

_FEWEST_ROWS = 5
_OWN_FAMILY = 40
"""A family of fewer rows has no cost model of its own: all such share one."""
_REST = "rest"
_NEGLIGIBLE = 0.03
"""Kernels out of reach that take no more than this share of a network, at the upper ends of their
intervals, are predicted all the same."""
_SHARED = 0.1
"""Least correlation between the errors of two predicted operators: the roofline's are common."""


@dataclass(frozen=True)
class RegressionModel:
    """A `LatencyModel` that says of each operator whether it was `measured` or is `predicted`.

    `fit` makes it. The cost model of a family is fitted when first asked for.
    """

    table: LatencyTable
    extrapolate: bool
    _fitted: dict[str, Family] = field(default_factory=dict, repr=False, compare=False)

    def predict(self, network: Network) -> Prediction:
        """Latency of a network: the sum of its operators.

        The interval of what was measured is the table's. Errors of predicted operators are taken
        to be correlated as the Gaussian process has them, by a tenth at least, and never to
        cancel. The interval of the kernels of a graph is at least that of the suite's validation.
        Raises `CoverageError` with all operators that are out of reach; kernels of a graph may be,
        where all of them together are negligible in it.
        """
        if network.kernels:
            return self._predict_kernels(network)
        self._require(network.parts)
        parts = self._predict_ops(tuple(dict.fromkeys(network.parts)))
        per_op = tuple(parts[op] for op in network.parts)
        ms = sum(part.ms for part in per_op)
        half = self._half_of_predicted(per_op)
        if self.table.validations:
            half = math.hypot(half, ms * self.table.relative_ci95)
        else:
            half += sum(part.high_ms - part.ms for part in per_op if part.op in self.table)
        return Prediction(ms, max(0.0, ms - half), ms + half, per_op)

    def _predict_kernels(self, graph: Network) -> Prediction:
        """As `predict`, of kernels. Those that are not square add their doubt to the interval."""
        beside = {k.between.other for k in graph.kernels if k.between is not None}
        parts = self._predict_ops(tuple(dict.fromkeys([*graph.ops, *beside])))
        far = set(self.missing(parts))
        per_op, squares, doubt, unsure = [], [], 0.0, 0.0
        for kernel in graph.kernels:
            part = parts[kernel.op]
            needed = {kernel.op}
            squares.append(part)
            if kernel.between is not None:
                needed.add(kernel.between.other)
                part = _oblong(kernel.between, part, parts[kernel.between.other])
                doubt += DOUBT * part.ms
            per_op.append(part)
            unsure += part.high_ms if needed & far else 0.0
        ms = sum(part.ms for part in per_op)
        if unsure > _NEGLIGIBLE * ms:
            self._require(parts)
        half = self._half_of_predicted(squares) + doubt
        validation = self.table.validations.get(SUITE)
        if validation is not None:
            half = max(half, ms * validation.relative_ci95)
        return Prediction(ms, max(0.0, ms - half), ms + half, tuple(per_op))

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network.

        Raises `CoverageError` where it is neither in the table nor near to what is, with the
        nearest operator named; `extrapolate` predicts it all the same, with a wide interval.
        """
        self._require([op])
        return self._predict_ops((op,))[op]

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """Those of `ops` that are out of reach, each once, in order; none with `extrapolate`."""
        if self.extrapolate:
            return ()
        return tuple(op for op in self.table.missing(ops) if self.nearest(op)[1] >= REACH)

    def nearest(self, op: OpSpec) -> tuple[OpSpec, float]:
        """The operator of the table that is nearest, and how far it is (`features.Neighbours`)."""
        near = self._near
        far = near.distances(op)
        index = int(far.argmin())
        return near.ops[index], float(far[index])

    @cached_property
    def _near(self) -> Neighbours:
        return Neighbours(sorted(self.table, key=lambda op: op.key))

    @cached_property
    def _members(self) -> dict[str, list[OpSpec]]:
        """The rows of each family."""
        sizes = Counter(kernel_family(op) for op in self.table)
        members: dict[str, list[OpSpec]] = {}
        for op in self._near.ops:
            name = kernel_family(op)
            own = sizes[name] >= _OWN_FAMILY and name != "mbconv"
            members.setdefault(name if own else _REST, []).append(op)
        if 0 < len(members.get(_REST, ())) < _FEWEST_ROWS:
            members[_REST] = list(self._near.ops)
        return members

    def _family_name(self, op: OpSpec) -> str:
        """A family that has no rows is served by the rest, or else by the largest."""
        name = kernel_family(op)
        if name in self._members:
            return name
        if _REST in self._members:
            return _REST
        return max(self._members, key=lambda one: len(self._members[one]))

    def family_of(self, op: OpSpec) -> Family:
        """The cost model that serves an operator."""
        return self._family(self._family_name(op))

    def _family(self, name: str) -> Family:
        if name not in self._fitted:
            rows = self._members[name]
            ms = np.array([self.table[op].median_ms for op in rows])
            noise = np.array([_noise(self.table[op].relative_ci95) for op in rows])
            inside = all(row.kind != "mbconv" for row in rows) and len(rows) >= _OWN_FAMILY
            self._fitted[name] = fit_family(rows, ms, noise, inside)
        return self._fitted[name]

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

    def _predict_ops(self, ops: Sequence[OpSpec]) -> dict[OpSpec, OpPrediction]:
        """Each of different operators; those that the table lacks family by family."""
        found = {op: self.table.predict_op(op) for op in ops if op in self.table}
        for name, lacking in self._by_family(op for op in ops if op not in self.table).items():
            middles, halves = self._family(name).log_alone(lacking)
            for op, middle, half in zip(lacking, middles, halves, strict=True):
                inside = self._calibration(op).in_network_ms
                ms, low, high = (inside(op, math.exp(middle + s * half)) for s in (0, -1, 1))
                least = ms * self.table.relative_ci95
                found[op] = OpPrediction(
                    op, ms, max(0.0, min(low, ms - least)), max(high, ms + least), PREDICTED
                )
        return found

    def _by_family(self, ops: Iterable[OpSpec]) -> dict[str, list[OpSpec]]:
        families: dict[str, list[OpSpec]] = {}
        for op in ops:
            families.setdefault(self._family_name(op), []).append(op)
        return families

    def _half_of_predicted(self, parts: Sequence[OpPrediction]) -> float:
        """Half the interval of the sum of those operators that are predicted, in ms."""
        halves: dict[OpSpec, float] = {}
        for part in parts:
            if part.source == PREDICTED and part.op not in self.table:
                half = (part.high_ms - part.low_ms) / 2
                halves[part.op] = halves.get(part.op, 0.0) + half
        variance = total = 0.0
        for name, ops in self._by_family(halves).items():
            _, covariance = self._family(name).posterior(ops)
            deviation = np.sqrt(np.diag(covariance))
            correlation = np.clip(covariance / np.outer(deviation, deviation), _SHARED, 1.0)
            summed = np.array([halves[op] for op in ops])
            variance += float(summed @ correlation @ summed) - _SHARED * float(summed.sum()) ** 2
            total += float(summed.sum())
        return math.sqrt(max(0.0, variance + _SHARED * total**2))

    def _calibration(self, op: OpSpec) -> Calibration:
        """That of the nearest row on inputs of the same size, which spaces of several
        resolutions rarely share; of the nearest row where no input has that size."""
        if not self.table.calibrations:
            return Calibration()
        elsewhere = self._heights != op.height
        elsewhere |= self._widths != op.width
        index = int((self._near.distances(op) + 1e3 * elsewhere).argmin())
        return _calibration_of(self.table, self._near.ops[index])

    @cached_property
    def _heights(self) -> Floats:
        return np.array([row.height for row in self._near.ops], float)

    @cached_property
    def _widths(self) -> Floats:
        return np.array([row.width for row in self._near.ops], float)


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
    return RegressionModel(table, extrapolate)


def _oblong(place: Between, near: OpPrediction, far: OpPrediction) -> OpPrediction:
    """A kernel that is not square, by the predictions of the squares on both sides of it."""
    ms = place.mix(near.ms, far.ms)
    low = place.mix(near.low_ms, far.low_ms) - DOUBT * ms
    high = place.mix(near.high_ms, far.high_ms) + DOUBT * ms
    return OpPrediction(near.op, ms, max(0.0, low), high, PREDICTED)


def _noise(relative_ci95: float) -> float:
    """Variance of a row's logarithm by its interval."""
    return 1e-8 + (min(relative_ci95, 1.0) / coverage_factor(1000)) ** 2


def _calibration_of(table: LatencyTable, op: OpSpec) -> Calibration:
    """The calibration by which a row's in-network latency was found."""
    alone = table[op].median_ms
    inside = table.in_network_ms.get(op, alone)
    known = [Calibration(), *table.calibrations.values()]
    return min(known, key=lambda one: abs(one.in_network_ms(op, alone) - inside))
