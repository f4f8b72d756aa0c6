"""`Measurement`: how long one operator or network took on a device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from latency.stats import median_interval
from latency.units import format_ms


@dataclass(frozen=True)
class Measurement:
    """Median latency in ms with half the width of its 95 % interval, the number of timed runs,
    the fastest one, and when it was measured (ISO 8601, UTC)."""

    median_ms: float
    ci95_ms: float
    runs: int
    min_ms: float
    measured_at: str = ""

    @classmethod
    def from_bursts(cls, bursts_ms: Sequence[Sequence[float]], measured_at: str = "") -> Self:
        """Summarise bursts of back-to-back runs (ms), the bursts spread over time.

        Runs of a burst share the state that the machine is in, so a burst counts as one sample:
        its median. The interval is that of the median over the bursts.
        """
        medians = [median_interval(burst)[0] for burst in bursts_ms]
        median_ms, half_ms = median_interval(medians)
        runs = sum(len(burst) for burst in bursts_ms)
        return cls(median_ms, half_ms, runs, float(min(map(min, bursts_ms))), measured_at)

    @property
    def relative_ci95(self) -> float:
        """Half the interval as a share of the median."""
        return self.ci95_ms / self.median_ms

    @property
    def low_ms(self) -> float:
        return self.median_ms - self.ci95_ms

    @property
    def high_ms(self) -> float:
        return self.median_ms + self.ci95_ms

    def __str__(self) -> str:
        return f"{format_ms(self.median_ms)} ± {100 * self.relative_ci95:.1f} %"
