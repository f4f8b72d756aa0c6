"""`diff`: differences of two tables, with their significance."""

import math
from dataclasses import dataclass

import numpy as np

from latency.operators.spec import OpSpec
from latency.stats import Z95, sign_test
from latency.tables.table import LatencyTable

LEVEL = 0.05
_MIN_DEVIATION = 1e-7
"""Tables keep seven decimals."""
_MAX_DEVIATION = 600 / Z95
"""Of a logarithm: the ends of its interval stay finite."""


@dataclass(frozen=True)
class OpDifference:
    """An operator measured twice: ms alone, `ratio` b over a with its 95 % interval, the two-sided
    p-value, and whether it is significant among all."""

    op: OpSpec
    a_ms: float
    b_ms: float
    ratio: float
    low: float
    high: float
    p_value: float
    significant: bool


@dataclass(frozen=True)
class TableDifference:
    """Result of `diff`: `common` from the largest ratio to the smallest, operators of one table
    only, `median_ratio` (NaN if nothing is common) with the p-value of the sign test, and the
    fields of the settings that differ, with both values."""

    common: tuple[OpDifference, ...]
    only_a: tuple[OpSpec, ...]
    only_b: tuple[OpSpec, ...]
    median_ratio: float
    sign_p_value: float
    settings: dict[str, tuple[object, object]]

    @property
    def significant(self) -> tuple[OpDifference, ...]:
        """The significant differences."""
        return tuple(one for one in self.common if one.significant)


def diff(a: LatencyTable, b: LatencyTable) -> TableDifference:
    """Compare two tables of any settings operator by operator, b against a.

    The logarithms of medians are assumed to be normal, with deviations by their intervals.
    Significance is by Holm's step-down procedure (Scandinavian Journal of Statistics, 1979) over
    all common operators at a family-wise error rate of 5 %. The sign test says whether one table
    is faster as a whole.
    """
    measured = [(op, *_ratio(a, b, op)) for op in sorted(a, key=lambda op: op.key) if op in b]
    rejected = _holm([p for *_, p in measured])
    common = [
        OpDifference(
            op=op,
            a_ms=a[op].median_ms,
            b_ms=b[op].median_ms,
            ratio=math.exp(log),
            low=math.exp(log - Z95 * deviation),
            high=math.exp(log + Z95 * deviation),
            p_value=p_value,
            significant=significant,
        )
        for (op, log, deviation, p_value), significant in zip(measured, rejected, strict=True)
    ]
    logs = [log for _, log, _, _ in measured]
    return TableDifference(
        common=tuple(sorted(common, key=lambda one: -one.ratio)),
        only_a=b.missing(a),
        only_b=a.missing(b),
        median_ratio=math.exp(float(np.median(logs))) if logs else math.nan,
        sign_p_value=sign_test(logs) if logs else 1.0,
        settings=a.setting.differences(b.setting),
    )


def _ratio(a: LatencyTable, b: LatencyTable, op: OpSpec) -> tuple[float, float, float]:
    """Logarithm of b over a, its standard deviation, and its p-value."""
    log = math.log(b[op].median_ms / a[op].median_ms)
    deviation = math.hypot(a[op].relative_ci95, b[op].relative_ci95) / Z95
    if not deviation <= _MAX_DEVIATION:
        return log, _MAX_DEVIATION, 1.0
    return log, deviation, math.erfc(abs(log) / max(deviation, _MIN_DEVIATION) / math.sqrt(2))


def _holm(p_values: list[float]) -> list[bool]:
    """Which hypotheses Holm's procedure rejects at 5 %."""
    order = np.argsort(p_values, kind="stable")
    rejected = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > LEVEL / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected
