"""`fit`: from a table to a model that also predicts operators that are missing in the table.

What an operator takes alone is predicted by the cost model of its family
(`latency.predictors.families`); what it costs inside a network follows by the calibration of the
nearest operator that was measured.

A model is a pure function of its table: no randomness, nothing stored.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latency.errors import CoverageError, TableError
from latency.graphs.fusion import SUITE
from latency.graphs.kernels import Network
from latency.graphs.non_square import DOUBT, Bounds
from latency.operators.features import Neighbours
from latency.operators.spec import OpSpec
from latency.prediction import PREDICTED, OpPrediction, Prediction
from latency.predictors.families import (
    FEWEST_ROWS,
    REACH,
    REST,
    Family,
    fit_rows,
    members_of,
    served_by,
)
from latency.tables.calibration import Calibration
from latency.tables.table import LatencyTable

_NEGLIGIBLE = 0.03
"""Kernels out of reach that take no more than this share of a network, at the upper ends of their
intervals, are predicted all the same."""
_SHARED = 0.1
"""Least correlation between the errors of two predicted operators: the roofline's are common."""


@dataclass(frozen=True)
class RegressionModel:
    """A `LatencyModel` that says of each operator whether it was `measured` or is `predicted`.

    `fit` makes it; predicting changes nothing of it. `rows`: the table's operators, by which the
    nearest to others are found; `input_sizes` (rows, 2): their heights and widths. `families`: the
    cost models by name, None where one was not fitted since no operator needed it; `fallback` names
    the one of operators whose family has no rows.
    """

    table: LatencyTable
    extrapolate: bool
    rows: Neighbours = field(repr=False, compare=False)
    input_sizes: NDArray[np.int64] = field(repr=False, compare=False)
    families: Mapping[str, Family | None] = field(repr=False, compare=False)
    fallback: str

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
        asked = operators_of(graph)
        self._require_fitted(asked)
        parts = self._predict_ops(asked)
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

        Raises `CoverageError` where it is neither in the table nor near to what is, with the
        nearest operator named; `extrapolate` predicts it all the same, with a wide interval.
        """
        self._require([op])
        return self._predict_ops((op,))[op]

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """Those of `ops` that are out of reach (none is with `extrapolate`), or whose cost model
        was not fitted, each once, in order."""
        unknown = self.table.missing(ops)
        far = set() if self.extrapolate else set(_far(self.rows, unknown))
        return tuple(op for op in unknown if op in far or self.family_of(op) is None)

    def nearest(self, op: OpSpec) -> tuple[OpSpec, float]:
        """The operator of the table that is nearest, and how far it is (`features.Neighbours`)."""
        return _nearest(self.rows, op)

    def family_of(self, op: OpSpec) -> Family | None:
        """The cost model that serves an operator; None where it was not fitted."""
        return self.families[served_by(op, self.families, self.fallback)]

    def _require_fitted(self, ops: Collection[OpSpec]) -> None:
        unfitted = [op for op in self.table.missing(ops) if self.family_of(op) is None]
        if unfitted:
            raise CoverageError(
                (op.key for op in unfitted),
                f"the regression of {self.table.source}, which was fitted for other operators",
                "name them when fitting: fit(table, operators=...)",
            )

    def _require(self, ops: Collection[OpSpec]) -> None:
        self._require_fitted(ops)
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
        """Each of different operators; those missing in the table family by family."""
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
        """Operators with the cost models that serve them, which are fitted."""
        groups: dict[str, tuple[Family, list[OpSpec]]] = {}
        for op in ops:
            family = self.family_of(op)
            assert family is not None, op.key
            name = served_by(op, self.families, self.fallback)
            groups.setdefault(name, (family, []))[1].append(op)
        return list(groups.values())

    def _half_of_predicted(self, parts: Sequence[OpPrediction]) -> float:
        """Half the interval of the sum of those operators that are predicted, in ms."""
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
        """That of the nearest row on inputs of the same size, which spaces of several
        resolutions rarely share; of the nearest row where no input has that size."""
        if not self.table.calibrations:
            return Calibration()
        elsewhere = (self.input_sizes != (op.height, op.width)).any(1)
        index = int((self.rows.distances(op) + 1e3 * elsewhere).argmin())
        return _calibration_of(self.table, self.rows.ops[index])


def fit(
    table: LatencyTable, *, extrapolate: bool = False, operators: Iterable[OpSpec] | None = None
) -> RegressionModel:
    """The regression model of a table; the same for the same table.

    `extrapolate`: predict operators far from all that was measured, too. `operators`: all that is
    going to be predicted, so that only the cost models that these need are fitted (for a network:
    `operators_of`); None fits all, which takes seconds for the table of a kernel suite.

    Raises `TableError` for tables of fewer than five rows.
    """
    if len(table) < FEWEST_ROWS:
        raise TableError(
            f"{table.source}: {len(table)} rows are too few for a regression; measure at least "
            f"{FEWEST_ROWS} operators"
        )
    rows = Neighbours(sorted(table, key=lambda op: op.key))
    members = members_of(rows.ops)
    fallback = REST if REST in members else max(members, key=lambda one: len(members[one]))
    needed = set(members)
    if operators is not None:
        needed = {served_by(op, members, fallback) for op in table.missing(operators)}
    return RegressionModel(
        table=table,
        extrapolate=extrapolate,
        rows=rows,
        input_sizes=np.array([(row.height, row.width) for row in rows.ops]),
        families={
            name: fit_rows(table, ops) if name in needed else None for name, ops in members.items()
        },
        fallback=fallback,
    )


def operators_of(network: Network) -> tuple[OpSpec, ...]:
    """All operators, each once, that the prediction of a network needs: its own, and the larger
    square of each kernel that is not square."""
    others = [k.bounds.other for k in network.kernels if k.bounds is not None]
    return tuple(dict.fromkeys([*network.parts, *others]))


def out_of_reach(table: LatencyTable, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
    """Those of `ops`, each once, that a model of the table refuses to predict unless it
    extrapolates; nothing is fitted to find them."""
    return _far(Neighbours(sorted(table, key=lambda op: op.key)), table.missing(ops))


def _far(rows: Neighbours, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
    return tuple(op for op in ops if _nearest(rows, op)[1] >= REACH)


def _nearest(rows: Neighbours, op: OpSpec) -> tuple[OpSpec, float]:
    distances = rows.distances(op)
    index = int(distances.argmin())
    return rows.ops[index], float(distances[index])


def _non_square(bounds: Bounds, near: OpPrediction, far: OpPrediction) -> OpPrediction:
    """A kernel that is not square, by the predictions of the squares on both sides of it."""
    ms = bounds.interpolate(near.ms, far.ms)
    low = bounds.interpolate(near.low_ms, far.low_ms) - DOUBT * ms
    high = bounds.interpolate(near.high_ms, far.high_ms) + DOUBT * ms
    return OpPrediction(near.op, ms, max(0.0, low), high, PREDICTED)


def _calibration_of(table: LatencyTable, op: OpSpec) -> Calibration:
    """The calibration by which a row's in-network latency was found."""
    alone = table[op].median_ms
    inside = table.in_network_ms.get(op, alone)
    known = [Calibration(), *table.calibrations.values()]
    return min(known, key=lambda one: abs(one.in_network_ms(op, alone) - inside))
