"""The output of TensorFlow Lite's `benchmark_model`, checked as it is parsed.

It prints a line of statistics in us for the warm-up and one for the timed runs, then the memory:

    count=4 first=15102 curr=14601 min=14580 max=15102 avg=14720.8 std=220 p5=... median=...
    count=50 first=14642 curr=14566 min=14524 max=14803 avg=14575.2 std=53 p5=... median=...
    Memory footprint delta from the start of the tool (MB): init=2.1 overall=9.5

For a single run, or equal ones, it prints only `count` and `curr`; older builds print no
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
"""Resolution of the clock of benchmark_model."""


@dataclass(frozen=True)
class Statistics:
    """Times of back-to-back runs. `median_us`: None if it is not printed."""

    count: int
    last_us: float
    mean_us: float
    median_us: float | None

    @property
    def typical_us(self) -> float:
        """The median; as it is printed in whole us, the mean decides within that us. Without a
        median, the mean."""
        if self.median_us is None:
            return self.mean_us
        half = _CLOCK_US / 2
        return min(max(self.mean_us, self.median_us - half), self.median_us + half)


@dataclass(frozen=True)
class Report:
    """The result of one run of benchmark_model."""

    warmup: Statistics
    timed: Statistics
    memory_bytes: int | None

    @property
    def is_warm(self) -> bool:
        """Whether the last warm-up run was as fast as the timed ones, within 2 % and a tick."""
        return self.warmup.last_us <= self.timed.typical_us * _WARM + _CLOCK_US


def read_report(output: str) -> Report:
    """Parse the output. Raises `ValueError` if it is not valid."""
    found = _STATISTICS.findall(output)
    if len(found) < 2:
        raise ValueError("no statistics of warm-up and timed runs")
    footprints = (pattern.search(output) for pattern in _MEMORY)
    mib = next((_number(match[1]) for match in footprints if match), None)
    memory_bytes = None if mib is None else round(mib * 2**20)
    return Report(_statistics(*found[0]), _statistics(*found[-1]), memory_bytes)


def _statistics(count: str, rest: str) -> Statistics:
    values = {name: _number(text) for name, text in _VALUE.findall(rest)}
    if int(count) < 1 or "curr" not in values:
        raise ValueError(f"incomplete statistics: count={count}{rest[:80]}")
    last = values["curr"]
    mean = values.get("avg", last)
    if not values.get("min", mean) * 0.999 <= mean <= values.get("max", mean) * 1.001:
        raise ValueError(f"inconsistent statistics: count={count}{rest[:80]}")
    return Statistics(int(count), last, mean, values.get("median"))


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value > 1e12:
        raise ValueError(f"not a valid number: {text[:40]}")
    return value
