"""A table of a device on which nothing but a few whole networks was measured.

    tables of other devices ─┐
    networks of a space ─────┴▶ Pool ─▶ choose ─▶ measured networks ─▶ transfer ─▶ LatencyTable

`latency.transfer.few_samples` predicts all networks of the pool; the operators' costs are those
that add up to the predictions. Such a table serves every reader of tables, says in its header what
it is, and gives way to measurements (`LatencyTable.merge`).
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
"""At least this many networks must be measured: each is predicted from the others, and the noise
of a measurement is estimated from two."""
_FOLDS = 10
_RIDGE = 0.01
"""Penalty of an operator that costs twice what the sources say, in squared relative errors of a
network of the pool: it decides what networks leave open, and nothing else."""
_LEAST = 0.1
"""An operator never costs less than this share of what the sources say."""


@dataclass(frozen=True)
class Pool:
    """Networks of a space, as the tables of other devices (`sources`, one at least) know them.

    `one_hots` (networks, d): the choices that make each network. Raises `CoverageError` where a
    source is missing one of their operators.
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
        """How often a network has an operator: (networks, operators)."""
        column = {op: i for i, op in enumerate(self.operators)}
        counts = np.zeros((len(self.networks), len(column)))
        for row, network in enumerate(self.networks):
            for op in network.parts:
                counts[row, column[op]] += 1
        return counts

    @cached_property
    def costs(self) -> Array:
        """What an operator adds to a network on each source, in ms: (operators, sources)."""
        return np.array(
            [[table.predict_op(op).ms for table in self.sources] for op in self.operators]
        )

    @property
    def sources_ms(self) -> Array:
        """Latencies on the sources: (networks, sources)."""
        return np.asarray(self.counts @ self.costs)

    @cached_property
    def features(self) -> Array:
        """Choices one-hot, then totals: MACs, bytes, launches, and the MACs of each kind of inner
        layer, depthwise kernels by their size (a runtime may have no fast code for one of them)."""
        terms = [physical_terms(op, sized=True) for op in self.operators]
        roles = sorted({term for one in terms for term in one if term[1] == "macs"})
        totals = [
            [op.macs, op.bytes, len(op.layers), *(one.get(role, 0.0) for role in roles)]
            for op, one in zip(self.operators, terms, strict=True)
        ]
        return np.hstack([self.one_hots, self.counts @ np.array(totals, float)])


def choose(pool: Pool, n: int, seed: int = 0) -> list[int]:
    """Which `n` networks of the pool to measure on a new device, the most telling first.

    Raises `UsageError` where `n` is below `FEWEST`, or more than the pool has.
    """
    if n < FEWEST:
        raise UsageError(
            f"{n} network(s) are too few to predict a device from, and to estimate the error "
            f"of that: measure {FEWEST} at least, better 10"
        )
    return [int(i) for i in choose_samples(pool.sources_ms, n, seed, pool.features)]


def transfer(
    pool: Pool,
    measured: Mapping[int, Measurement],
    setting: Setting,
    space: str,
    circumstances: Mapping[str, str] | None = None,
) -> LatencyTable:
    """The table of a device in `setting`, of which `measured` networks are known: index into the
    pool to measurement, `FEWEST` at least (else `UsageError`). `space` is the space's tag.

    Its rows are no measurements, and say so in every way that a reader may look for:

    * `transfers` names the space, with the sources and the number of networks;
    * each row is of the origin "transferred", and is `predicted`, not `measured`, to whoever asks;
    * `latency_ms` is what the operator adds to a network (there is no other number, and no
      calibration); `runs` are those of all measured networks, since every row rests on all;
    * the validation of the space is a cross-validation: each measured network against the table
      that the others give, ten folds at most. Intervals of networks rest on it. Networks that
      were chosen to be telling lie far apart, so that it is rather too large than too small;
    * `ci95_ms` of a row is wider, since errors of single operators cancel in networks, but not in
      rows: it takes in how far the farthest of the sources, each scaled to the device, is from
      the row, and how far it usually is.
    """
    index = np.array(list(measured), np.intp)
    target_ms = np.array([one.median_ms for one in measured.values()])
    if len(index) < FEWEST:
        raise UsageError(f"{len(index)} measured network(s): {FEWEST} at least are needed")
    validation = _cross_validated(pool, index, target_ms)
    networks_ms = few_shot(pool.sources_ms, index, target_ms, pool.features)
    ms = _operator_ms(pool, networks_ms)
    half = ms * _relative_halves(pool, ms, validation)
    runs = sum(one.runs for one in measured.values())
    sessions = max(one.sessions for one in measured.values())
    stamp = max((one.measured_at for one in measured.values()), key=time_of)
    rows = {
        op: Measurement(
            median_ms=float(ms[i]),
            ci95_ms=float(half[i]),
            runs=runs,
            min_ms=float(ms[i]),
            measured_at=stamp,
            sessions=sessions,
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


def _operator_ms(pool: Pool, networks_ms: Array) -> Array:
    """Costs of operators that add up to the predictions of the pool: (operators,).

    Least squares of relative errors. First a mixture of sources that comes nearest (none of them
    negative), then shares of it, one an operator, drawn towards 1.
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
    """Measured networks against the tables that the others of them give."""
    predicted = np.empty(len(index))
    for fold in range(min(_FOLDS, len(index))):
        out = np.arange(len(index)) % _FOLDS == fold
        networks_ms = few_shot(pool.sources_ms, index[~out], target_ms[~out], pool.features)
        predicted[out] = pool.counts[index[out]] @ _operator_ms(pool, networks_ms)
    return validate(predicted.tolist(), target_ms.tolist())


def _relative_halves(pool: Pool, ms: Array, validation: Validation) -> Array:
    """Half of each operator's 95 % interval, as a share of its ms: (operators,).

    With each shipped table in turn in place of the new device, 95 to 100 % of the operators are
    within.
    """
    logs = np.log(ms[:, None] / pool.costs)
    farthest = np.abs(logs - np.median(logs, axis=0)).max(1)
    return np.hypot(validation.relative_ci95, farthest + np.median(farthest))
