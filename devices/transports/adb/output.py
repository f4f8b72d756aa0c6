"""What TensorFlow Lite's `benchmark_model` prints, read with suspicion.

Two lines of statistics in us come, of the warm-up and of the timed runs, then the memory:

    count=4 first=15102 curr=14601 min=14580 max=15102 avg=14720.8 std=220 p5=... median=...
    count=50 first=14642 curr=14566 min=14524 max=14803 avg=14575.2 std=53 p5=... median=...
    Memory footprint delta from the start of the tool (MB): init=2.1 overall=9.5

Of one run, or of equal ones, it prints no more than `count` and `curr`; older builds print no
percentiles.
"""

import math
import re
from dataclasses import dataclass

_STATISTICS = re.compile(r"\bcount=(\d{1,9})\b(.*)")
_VALUE = re.compile(r"\b([a-z]\w*)=(\d[\d.]*(?:e[+-]?\d+)?)")
_MEMORY = (
    re.compile(r"Overall peak memory footprint \(MB\)[^:\n]*: (\d[\d.]*(?:e[+-]?\d+)?)"),
    re.compile(r"emory footprint[^\n]*\boverall=(\d[\d.]*(?:e[+-]?\d+)?)"),
)
_WARM = 1.02
_CLOCK_US = 1.0
"""The tool's clock ticks in whole us."""


@dataclass(frozen=True)
class Statistics:
    """Of back-to-back runs, in us. `median_us`: None where the tool prints none."""

    count: int
    last_us: float
    mean_us: float
    median_us: float | None

    @property
    def typical_us(self) -> float:
        """The median. The tool rounds it to a whole us, so within that us the mean decides;
        where it prints no median, the mean."""
        if self.median_us is None:
            return self.mean_us
        half = _CLOCK_US / 2
        return min(max(self.mean_us, self.median_us - half), self.median_us + half)


@dataclass(frozen=True)
class Report:
    """What a run of the tool found."""

    warmup: Statistics
    timed: Statistics
    memory_bytes: int | None

    @property
    def is_warm(self) -> bool:
        """The last warm-up run took no longer than the timed ones, by 2 % and the clock's tick."""
        return self.warmup.last_us <= self.timed.typical_us * _WARM + _CLOCK_US


def read_report(output: str) -> Report:
    """What the tool printed. Raises `ValueError` where it is not that."""
    found = _STATISTICS.findall(output)
    if len(found) < 2:
        raise ValueError("no statistics of warm-up and timed runs")
    warmup, timed = _statistics(*found[0]), _statistics(*found[-1])
    return Report(warmup, timed, _memory_bytes(output))


def _statistics(count: str, rest: str) -> Statistics:
    values = {name: _number(text) for name, text in _VALUE.findall(rest)}
    if int(count) < 1 or "curr" not in values:
        raise ValueError(f"statistics of nothing: count={count}{rest[:80]}")
    last = values["curr"]
    mean = values.get("avg", last)
    if not values.get("min", mean) * 0.999 <= mean <= values.get("max", mean) * 1.001:
        raise ValueError(f"statistics that cannot be: count={count}{rest[:80]}")
    return Statistics(int(count), last, mean, values.get("median"))


def _memory_bytes(output: str) -> int | None:
    for pattern in _MEMORY:
        if found := pattern.search(output):
            return round(_number(found[1]) * 2**20)
    return None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value > 1e12:
        raise ValueError(f"no sensible number: {text[:40]}")
    return value
