"""Verification: measure a random tenth of a table again, and test whether it has drifted."""

import math
from dataclasses import dataclass

import numpy as np

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.record import LEAST_TOGETHER
from devices.measuring.rounds import OnProgress, measure
from latency.errors import DeviceError
from latency.operators.spec import OpSpec
from latency.stats import sign_test
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable

SIGNIFICANT = 0.05
"""Level of significance of a common drift."""
NEGLIGIBLE = 0.01
"""A smaller drift does not make a table out of date, significant or not."""


@dataclass(frozen=True)
class Recheck:
    """An operator's measurement in the table, and a new one."""

    op: OpSpec
    before: Measurement
    now: Measurement

    @property
    def ratio(self) -> float:
        """Now over before."""
        return self.now.median_ms / self.before.median_ms

    @property
    def is_significant(self) -> bool:
        """Whether they differ by more than their 95 % intervals explain."""
        both = math.hypot(self.now.relative_ci95, self.before.relative_ci95)
        return abs(math.log(self.ratio)) > both


@dataclass(frozen=True)
class Verification:
    """The result of measuring a part of a table again. `failures`: the errors of operators that
    could not be measured."""

    rechecks: tuple[Recheck, ...]
    failures: dict[str, str]

    @property
    def drift(self) -> float:
        """Median relative change of the operators; 0.03 is 3 % slower."""
        return float(np.median([r.ratio for r in self.rechecks])) - 1

    @property
    def spread(self) -> float:
        """Median absolute relative change of the operators."""
        return float(np.median([abs(r.ratio - 1) for r in self.rechecks]))

    @property
    def levelled_spread(self) -> float:
        """`spread` after drift correction."""
        level = 1 + self.drift
        return float(np.median([abs(r.ratio / level - 1) for r in self.rechecks]))

    @property
    def probability(self) -> float:
        """p-value of the drift (sign test)."""
        return sign_test([r.ratio - 1 for r in self.rechecks])

    @property
    def still_holds(self) -> bool:
        """Whether the drift is not significant, or negligible."""
        return self.probability > SIGNIFICANT or abs(self.drift) <= NEGLIGIBLE

    def __str__(self) -> str:
        moved = sum(r.is_significant for r in self.rechecks)
        verdict = "significant" if self.probability <= SIGNIFICANT else "not significant"
        return (
            f"{len(self.rechecks)} operators measured again: {100 * self.drift:+.1f} % on the "
            f"whole ({verdict}, p = {self.probability:.2g}), {100 * self.levelled_spread:.1f} % "
            f"each beyond that (median); {moved} differ by more than their intervals explain"
        )


def verify(
    device: Device,
    table: LatencyTable,
    measuring: Measuring,
    on_progress: OnProgress = lambda progress: None,
    seed: int | None = None,
    share: float = 0.1,
) -> Verification:
    """Measure a random `share` of the operators again that were measured alone, or as many as
    estimating drift takes. `seed` None draws others each time. Raises `DeviceError` where the table
    has no such operators, or none could be measured."""
    ops = [op for op, row in table.rows.items() if row.is_alone]
    if not ops:
        raise DeviceError(
            f"no operator of {table.source} was measured alone, there is nothing to measure "
            "again; profile the operators of a space first"
        )
    count = min(len(ops), max(LEAST_TOGETHER, math.ceil(share * len(ops))))
    drawn = np.random.default_rng(seed).choice(len(ops), count, replace=False)
    workloads = [Workload.of_op(ops[i]) for i in sorted(drawn)]
    measured = measure(device, workloads, measuring, on_progress=on_progress)
    rechecks = [
        Recheck(w.ops[0], table[w.ops[0]], measured.rows[w.name])
        for w in workloads
        if w.name in measured.rows
    ]
    if not rechecks:
        name, error = next(iter(measured.failures.items()))
        raise DeviceError(f"nothing could be measured again; the first, {name}: {error}")
    return Verification(tuple(rechecks), dict(measured.failures))
