"""`fit`: a model that also predicts operators that are missing in a table.

The latency of an operator alone is predicted by the cost model of its family
(`latency.predictors.families`), its latency inside a network by the calibration of the nearest
measured operator. Nothing is random.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from latency.errors import CoverageError, TableError
from latency.graphs.fusion import SUITE
from latency.graphs.kernels import Network
from latency.graphs.non_square import DOUBT, Bounds
from latency.operators.features import Neighbours, kernel_family
from latency.operators.spec import OpSpec
from latency.prediction import PREDICTED, OpPrediction, Prediction
from latency.predictors.families import FEWEST_ROWS, REACH, REST, Family, fit_rows, members_of
from latency.tables.calibration import Calibration
from latency.tables.table import LatencyTable

_NEGLIGIBLE = 0.03
"""Share of a network, at the upper ends of the intervals, up to which kernels out of reach are
predicted."""
_SHARED = 0.1
"""Least correlation between the errors of two predicted operators: the roofline's are common."""


@dataclass(frozen=True)
class RegressionModel:
    """A `LatencyModel` whose operators are `measured` or `predicted`. `fit` makes it.

    `rows`: the table's operators, to look up the nearest; `members`: the rows of each cost model;
    `families`: the cost models that were fitted.
    """

    table: LatencyTable
    extrapolate: bool
    rows: Neighbours = field(repr=False, compare=False)
    members: Mapping[str, Sequence[OpSpec]] = field(repr=False, compare=False)
    families: Mapping[str, Family] = field(repr=False, compare=False)

    def predict(self, network: Network) -> Prediction:
        """Latency of a network: the sum of its operators.

        Measured operators have the table's interval. Errors of predicted operators have the
        correlation of the Gaussian process, at least 0.1. The interval of a graph of kernels is at
        least that of the suite's validation. Raises `CoverageError` with all operators that are out
        of reach; kernels of a graph may be, if together they are negligible.
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
        """As `predict`, of kernels. Those that are not square widen the interval."""
        parts = self._predict_ops(operators_of(graph))
        far = set(self.missing(parts))
        per_op, squares, doubt, unsure = [], [], 0.0, 0.0
        for kernel in graph.kernels:
            part = parts[kernel.op]
            needed = {kernel.op}
            squares.append(part)
            if kernel.bounds is not None:
                needed.add(kernel.bounds.other)
                part = _non_square(kernel.bounds, part, parts[kernel.bounds.other])
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

        Raises `CoverageError`, with the nearest measured operator, if that is too far; with
        `extrapolate` the operator is predicted with a wide interval.
        """
        self._require([op])
        return self._predict_ops((op,))[op]

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """The operators that are out of reach (none with `extrapolate`), each once, in order."""
        if self.extrapolate:
            return ()
        return tuple(op for op in self.table.missing(ops) if self.nearest(op)[1] >= REACH)

    def nearest(self, op: OpSpec) -> tuple[OpSpec, float]:
        """The nearest operator of the table, and its distance (`features.Neighbours`)."""
        distances = self.rows.distances(op)
        index = int(distances.argmin())
        return self.rows.ops[index], float(distances[index])

    def family_of(self, op: OpSpec) -> Family:
        """The cost model for an operator: that of its kernel family, or else the common one."""
        try:
            return self.families[_family_name(op, self.members)]
        except KeyError:
            raise CoverageError(
                (op.key,),
                f"the regression of {self.table.source}, which was fitted for other operators",
                "name it in the `operators` of `fit`",
            ) from None

    def _require(self, ops: Iterable[OpSpec]) -> None:
        if missing := self.missing(ops):
            near, _ = self.nearest(missing[0])
            raise CoverageError(
                (op.key for op in missing),
                f"{self.table.source}, even by regression,",
                f"far from all that was measured (nearest to {missing[0].key}: {near.key}); "
                f"measure it: lat-profile --device {self.table.setting.device}, or fit the model "
                "with `extrapolate` to predict it all the same",
            )

    def _predict_ops(self, ops: Sequence[OpSpec]) -> dict[OpSpec, OpPrediction]:
        """Predictions of operators; those missing in the table family by family."""
        found = {op: self.table.predict_op(op) for op in ops if op in self.table}
        for family, missing in self._by_family(op for op in ops if op not in self.table):
            middles, halves = family.log_alone(missing)
            for op, middle, half in zip(missing, middles, halves, strict=True):
                inside = self._calibration(op).in_network_ms
                ms, low, high = (inside(op, math.exp(middle + s * half)) for s in (0, -1, 1))
                least = ms * self.table.relative_ci95
                found[op] = OpPrediction(
                    op, ms, max(0.0, min(low, ms - least)), max(high, ms + least), PREDICTED
                )
        return found

    def _by_family(self, ops: Iterable[OpSpec]) -> list[tuple[Family, list[OpSpec]]]:
        """Operators by their cost model."""
        groups: dict[int, tuple[Family, list[OpSpec]]] = {}
        for op in ops:
            family = self.family_of(op)
            groups.setdefault(id(family), (family, []))[1].append(op)
        return list(groups.values())

    def _half_of_predicted(self, parts: Sequence[OpPrediction]) -> float:
        """Half the interval of the sum of the predicted operators, in ms."""
        halves: dict[OpSpec, float] = {}
        for part in parts:
            if part.source == PREDICTED and part.op not in self.table:
                half = (part.high_ms - part.low_ms) / 2
                halves[part.op] = halves.get(part.op, 0.0) + half
        variance = total = 0.0
        for family, ops in self._by_family(halves):
            _, covariance = family.posterior(ops)
            deviation = np.sqrt(np.diag(covariance))
            correlation = np.clip(covariance / np.outer(deviation, deviation), _SHARED, 1.0)
            summed = np.array([halves[op] for op in ops])
            variance += float(summed @ correlation @ summed) - _SHARED * float(summed.sum()) ** 2
            total += float(summed.sum())
        return math.sqrt(max(0.0, variance + _SHARED * total**2))

    def _calibration(self, op: OpSpec) -> Calibration:
        """The calibration of the nearest row, if possible one with the same input size."""
        if not self.table.calibrations:
            return Calibration()
        sizes = [(row.height, row.width) for row in self.rows.ops]
        elsewhere = (np.array(sizes) != (op.height, op.width)).any(1)
        index = int((self.rows.distances(op) + 1e3 * elsewhere).argmin())
        return _calibration_of(self.table, self.rows.ops[index])


def fit(
    table: LatencyTable, *, extrapolate: bool = False, operators: Iterable[OpSpec] | None = None
) -> RegressionModel:
    """The regression model of a table; the same for the same table.

    `extrapolate`: predict operators far from all measured ones, too. `operators`: fit only the
    cost models that these need, which takes less time. Raises `TableError` for tables of fewer than
    five rows.
    """
    if len(table) < FEWEST_ROWS:
        raise TableError(
            f"{table.source}: {len(table)} rows are too few for a regression; measure at least "
            f"{FEWEST_ROWS} operators"
        )
    rows = Neighbours(sorted(table, key=lambda op: op.key))
    members = members_of(rows.ops)
    needed = set(members)
    if operators is not None:
        needed = {_family_name(op, members) for op in table.missing(operators)}
    families = {name: fit_rows(table, members[name]) for name in sorted(needed)}
    return RegressionModel(table, extrapolate, rows, members, families)


def _family_name(op: OpSpec, members: Mapping[str, Sequence[OpSpec]]) -> str:
    """The cost model for an operator: that of its kernel family, or else the common one."""
    name = kernel_family(op)
    if name in members:
        return name
    return REST if REST in members else max(members, key=lambda one: len(members[one]))


def operators_of(network: Network) -> tuple[OpSpec, ...]:
    """All operators, each once, that the prediction of a network needs: its own, and the larger
    square of each non-square kernel."""
    others = (kernel.bounds.other for kernel in network.kernels if kernel.bounds is not None)
    return tuple(dict.fromkeys([*network.parts, *others]))


def out_of_reach(table: LatencyTable, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
    """The operators, each once, that a model of the table refuses without `extrapolate`."""
    return fit(table, operators=()).missing(ops)


def _non_square(bounds: Bounds, near: OpPrediction, far: OpPrediction) -> OpPrediction:
    """A non-square kernel, from the predictions of the smaller and the larger square one."""
    ms = bounds.interpolate(near.ms, far.ms)
    low = bounds.interpolate(near.low_ms, far.low_ms) - DOUBT * ms
    high = bounds.interpolate(near.high_ms, far.high_ms) + DOUBT * ms
    return OpPrediction(near.op, ms, max(0.0, low), high, PREDICTED)


def _calibration_of(table: LatencyTable, op: OpSpec) -> Calibration:
    """The calibration of a row's in-network latency."""
    alone = table[op].median_ms
    inside = table.in_network_ms.get(op, alone)
    known = [Calibration(), *table.calibrations.values()]
    return min(known, key=lambda one: abs(one.in_network_ms(op, alone) - inside))
