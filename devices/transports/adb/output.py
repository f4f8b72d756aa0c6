"""The output of TensorFlow Lite's `benchmark_model`.

It prints a line of statistics in us for the warm-up and one for the timed runs, then the memory:

    count=4 first=15102 curr=14601 min=14580 max=15102 avg=14720.8 std=220 p5=... median=...
    count=50 first=14642 curr=14566 min=14524 max=14803 avg=14575.2 std=53 p5=... median=...
    Memory footprint delta from the start of the tool (MB): init=2.1 overall=9.5

For a single run, or equal ones, it prints `count` and `curr` but no `avg`.
"""

import re
from dataclasses import dataclass

_STATISTICS = re.compile(r"\bcount=(\d+)\b(.*)")
_VALUE = re.compile(r"\b([a-z]\w*)=(\d[\d.]*(?:e[+-]?\d+)?)")
_MEMORY = re.compile(r"emory footprint[^\n]*\boverall=(\d[\d.]*(?:e[+-]?\d+)?)")
_WARM = 1.02
_CLOCK_US = 1.0
"""Resolution of the clock of benchmark_model."""


@dataclass(frozen=True)
class Statistics:
    """Times of back-to-back runs. `typical_us`: the median; as it is printed in whole us, the mean
    decides within that us. Without a median (older builds), the mean."""

    count: int
    last_us: float
    typical_us: float


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
    memory = _MEMORY.search(output)
    memory_bytes = round(float(memory[1]) * 2**20) if memory else None
    return Report(_statistics(*found[0]), _statistics(*found[-1]), memory_bytes)


def _statistics(count: str, rest: str) -> Statistics:
    values = {name: float(text) for name, text in _VALUE.findall(rest)}
    if int(count) < 1 or "curr" not in values:
        raise ValueError(f"incomplete statistics: count={count}{rest[:80]}")
    mean = values.get("avg", values["curr"])
    median, half = values.get("median", mean), _CLOCK_US / 2
    return Statistics(int(count), values["curr"], min(max(mean, median - half), median + half))
