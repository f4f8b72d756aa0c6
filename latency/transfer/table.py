"""`transfer`: the table of a device on which only a few whole networks were measured.

    tables of other devices ─┐
    networks of a space ─────┴▶ Pool ─▶ choose ─▶ measured networks ─▶ transfer ─▶ LatencyTable

`latency.transfer.few_samples` predicts all networks of the pool; the operators' latencies are those
that add up to the predictions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency.errors import UsageError
from latency.operators.features import physical_terms
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.calibration import Validation, validate
from latency.tables.measurement import Measurement, Origin
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.timestamps import time_of
from latency.transfer.few_samples import choose_samples, few_shot

Array = NDArray[np.float64]

FEWEST = 3
"""Least number of measured networks."""
_FOLDS = 10
_RIDGE = 0.01
"""Penalty of an operator with twice the sources' latency, in squared relative errors of a network:
it decides what the networks do not determine."""
_LEAST = 0.1
"""Least latency of an operator, relative to the sources."""


@dataclass(frozen=True)
class Pool:
    """Networks of a space with the tables of other devices (`sources`, at least one).

    `one_hots` (networks, d): the choices of each network. Raises `CoverageError` if an operator is
    missing from a source.
    """

    networks: tuple[NetworkSpec, ...]
    one_hots: Array
    sources: tuple[LatencyTable, ...]

    @cached_property
    def operators(self) -> tuple[OpSpec, ...]:
        """All operators of the networks, each once."""
        return tuple(dict.fromkeys(op for network in self.networks for op in network.parts))

    @cached_property
    def counts(self) -> Array:
        """Number of each operator in each network: (networks, operators)."""
        column = {op: i for i, op in enumerate(self.operators)}
        counts = np.zeros((len(self.networks), len(column)))
        for row, network in enumerate(self.networks):
            for op in network.parts:
                counts[row, column[op]] += 1
        return counts

    @cached_property
    def costs(self) -> Array:
        """Latency of each operator inside a network on each source, ms: (operators, sources)."""
        return np.array(
            [[table.predict_op(op).ms for table in self.sources] for op in self.operators]
        )

    @property
    def sources_ms(self) -> Array:
        """Latencies on the sources, ms: (networks, sources)."""
        return np.asarray(self.counts @ self.costs)

    @cached_property
    def features(self) -> Array:
        """Choices one-hot, then totals: MACs, bytes, launches, and the MACs of each role of inner
        layer, depthwise kernels by size."""
        terms = [physical_terms(op, sized=True) for op in self.operators]
        roles = sorted({term for one in terms for term in one if term[1] == "macs"})
        totals = [
            [op.macs, op.bytes, len(op.layers), *(one.get(role, 0.0) for role in roles)]
            for op, one in zip(self.operators, terms, strict=True)
        ]
        return np.hstack([self.one_hots, self.counts @ np.array(totals, float)])


def choose(pool: Pool, n: int, seed: int = 0) -> list[int]:
    """Choose `n` networks of the pool to measure on a new device, the most informative first.

    Raises `UsageError` if `n` is below `FEWEST` or above the number of networks.
    """
    _require_enough(n)
    return [int(i) for i in choose_samples(pool.sources_ms, n, seed, pool.features)]


def transfer(
    pool: Pool,
    measured: Mapping[int, Measurement],
    setting: Setting,
    space: str,
    circumstances: Mapping[str, str] | None = None,
) -> LatencyTable:
    """The table of a device in `setting` from `measured` networks: index into the pool to
    measurement, at least `FEWEST` (else `UsageError`). `space`: the space's tag.

    Rows are predictions: their origin is "transferred" and their source `predicted`. `latency_ms`
    is the latency inside a network, `runs` those of all measured networks. The validation is a
    cross-validation over at most ten folds of the measured networks. `ci95_ms` includes the spread
    of the sources, since errors of operators do not cancel in rows.
    """
    _require_enough(len(measured))
    index = np.array(list(measured), np.intp)
    target_ms = np.array([one.median_ms for one in measured.values()])
    validation = _cross_validated(pool, index, target_ms)
    networks_ms = few_shot(pool.sources_ms, index, target_ms, pool.features)
    ms = _operator_ms(pool, networks_ms)
    half = ms * _relative_halves(pool, ms, validation)
    stamp = max((one.measured_at for one in measured.values()), key=time_of)
    rows = {
        op: Measurement(
            median_ms=float(ms[i]),
            ci95_ms=float(half[i]),
            runs=sum(one.runs for one in measured.values()),
            min_ms=float(ms[i]),
            measured_at=stamp,
            sessions=max(one.sessions for one in measured.values()),
            origin=Origin.TRANSFERRED,
        )
        for i, op in enumerate(pool.operators)
    }
    stems = ", ".join(Path(one.source).stem for one in pool.sources)
    return LatencyTable(
        setting,
        rows,
        validations={space: validation},
        circumstances=circumstances or {},
        transfers={space: f"from {stems}; {len(index)} networks measured"},
    )


def _require_enough(count: int) -> None:
    if count < FEWEST:
        raise UsageError(
            f"{count} network(s) are too few for a transfer: measure at least {FEWEST}, better 10"
        )


def _operator_ms(pool: Pool, networks_ms: Array) -> Array:
    """Latencies of operators that add up to the predictions of the pool: (operators,).

    Least squares of relative errors: first a non-negative mixture of the sources, then a factor per
    operator with a ridge towards 1.
    """
    from scipy.optimize import nnls

    count = len(pool.operators)
    mixture, _ = nnls(pool.sources_ms / networks_ms[:, None], np.ones(len(networks_ms)))
    expected = pool.costs @ mixture
    design = np.vstack(
        [pool.counts * expected / networks_ms[:, None], np.sqrt(_RIDGE) * np.eye(count)]
    )
    wanted = np.concatenate([np.ones(len(networks_ms)), np.full(count, np.sqrt(_RIDGE))])
    above, _ = nnls(design, wanted - _LEAST * design.sum(1))
    return np.asarray((_LEAST + above) * expected, float)


def _cross_validated(pool: Pool, index: NDArray[np.intp], target_ms: Array) -> Validation:
    """Errors of measured networks, predicted from the others."""
    predicted = np.empty(len(index))
    for fold in range(min(_FOLDS, len(index))):
        out = np.arange(len(index)) % _FOLDS == fold
        networks_ms = few_shot(pool.sources_ms, index[~out], target_ms[~out], pool.features)
        predicted[out] = pool.counts[index[out]] @ _operator_ms(pool, networks_ms)
    return validate(predicted.tolist(), target_ms.tolist())


def _relative_halves(pool: Pool, ms: Array, validation: Validation) -> Array:
    """Half of each operator's 95 % interval, relative to its ms: (operators,).

    With each shipped table in turn as the new device, 95 to 100 % of the operators are within.
    """
    logs = np.log(ms[:, None] / pool.costs)
    farthest = np.abs(logs - np.median(logs, axis=0)).max(1)
    return np.hypot(validation.relative_ci95, farthest + np.median(farthest))
