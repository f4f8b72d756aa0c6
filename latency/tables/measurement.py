"""`Measurement`: how long one operator or network took on a device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self

from latency.stats import clustered_median, median_interval
from latency.units import LEAST_MS, MOST_MS, format_ms


class Origin(Enum):
    """How a row was found. Values are the texts of the column `note` in files.

    `ALONE`: measured alone; `SUITE_ALONE`: the same, of a kernel of the suite. `INSIDE_NETWORKS`:
    a kernel of the suite, traced inside networks by the runtime's profiler. `TRANSFERRED`: not
    measured, but predicted from other devices (`latency.transfer.table`).
    """

    ALONE = ""
    SUITE_ALONE = "alone, of the kernel suite"
    INSIDE_NETWORKS = "inside random networks"
    TRANSFERRED = "transferred"

    @classmethod
    def read(cls, text: str) -> "tuple[Origin, str]":
        """The origin and the free note of a text in the column `note`."""
        try:
            return cls(text), ""
        except ValueError:
            return cls.ALONE, text


BOUNDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("latency_ms", "min_ms", "in_network_ms", "traced_ms"), (LEAST_MS, MOST_MS)),
    "ci95_ms": (0, MOST_MS),
    "runs": (1, 10**15),
    "sittings": (1, 10**6),
    "memory_bytes": (0, 10**15),
    "temperature_c": (-273.15, 1e4),
    "frequency_mhz": (0, 1e6),
}
"""Bounds of each number in tables, journals and answers of devices, by its column in files."""

_MAX_STABLE_CI95 = 0.02


@dataclass(frozen=True)
class Measurement:
    """Median latency in ms with half the width of its 95 % interval, the number of timed runs,
    the fastest one, and when it was measured (ISO 8601, UTC).

    `sessions`: number of processes. `converged`: whether the interval became as narrow as asked.
    `memory_bytes`, `temperature_c`, `frequency_mhz`: peak memory and state of the device; None if
    not readable. `note`: free text, for example that it is unstable; files keep it for rows of
    origin `ALONE` only. `traced_ms`: latency inside networks by the runtime's own profiler, scaled
    to the networks' latency without profiling; None if not traced.
    """

    median_ms: float
    ci95_ms: float
    runs: int
    min_ms: float
    measured_at: str = ""
    sessions: int = 1
    converged: bool | None = None
    memory_bytes: int | None = None
    temperature_c: float | None = None
    frequency_mhz: float | None = None
    note: str = ""
    traced_ms: float | None = None
    origin: Origin = Origin.ALONE

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The measurement of `as_dict`; `TypeError` for unknown or missing names."""
        origin, note = Origin.read(values.get("note", ""))
        return cls(**{**values, "note": note, "origin": origin})

    def as_dict(self) -> dict[str, Any]:
        """Fields as files keep them: `note` may be the origin's text."""
        values = {**asdict(self), "note": self.note_text}
        del values["origin"]
        return values

    @classmethod
    def from_samples(cls, sessions_ms: Sequence[Sequence[Sequence[float]]]) -> Self:
        """Summarise sessions of samples, each of a few back-to-back runs (ms).

        A sample counts once, by its median, since its runs share the state of the machine. The
        interval includes differences between sessions (`latency.stats.clustered_median`).
        """
        medians = [[median_interval(sample)[0] for sample in session] for session in sessions_ms]
        median_ms, half_ms = clustered_median(medians)
        samples = [sample for session in sessions_ms for sample in session]
        runs, fastest = sum(map(len, samples)), float(min(map(min, samples)))
        return cls(median_ms, half_ms, runs, fastest, sessions=len(sessions_ms))

    @property
    def relative_ci95(self) -> float:
        """Half the interval, relative to the median."""
        return self.ci95_ms / self.median_ms

    @property
    def is_unstable(self) -> bool:
        """Whether its interval is above 2 % or wider than asked; never of a row from inside
        networks."""
        is_wide = self.relative_ci95 > _MAX_STABLE_CI95 or self.converged is False
        return is_wide and not self.is_inside

    @property
    def is_transferred(self) -> bool:
        """Whether it was predicted from other devices."""
        return self.origin is Origin.TRANSFERRED

    @property
    def is_inside(self) -> bool:
        """Whether it was measured inside networks only."""
        return self.origin is Origin.INSIDE_NETWORKS

    @property
    def is_of_suite(self) -> bool:
        """Whether it is a kernel of the suite."""
        return self.origin in (Origin.INSIDE_NETWORKS, Origin.SUITE_ALONE)

    @property
    def is_alone(self) -> bool:
        """Whether it was measured alone."""
        return self.origin in (Origin.ALONE, Origin.SUITE_ALONE)

    @property
    def note_text(self) -> str:
        """Text of the column `note` in files."""
        return self.origin.value or self.note

    @property
    def low_ms(self) -> float:
        return self.median_ms - self.ci95_ms

    @property
    def high_ms(self) -> float:
        return self.median_ms + self.ci95_ms

    def __str__(self) -> str:
        return f"{format_ms(self.median_ms)} ± {100 * self.relative_ci95:.1f} %"
