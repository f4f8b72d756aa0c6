"""`Measurement`: how long one operator or network took on a device."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Self

from latency.stats import clustered_median, median_interval
from latency.units import LEAST_MS, MOST_MS, format_ms


class Origin(Enum):
    """How a row of a table was found. Values are the texts of the column `note` in files."""

    ALONE = ""
    """Measured by itself."""
    SUITE_ALONE = "alone, of the kernel suite"
    """Drawn by the kernel suite, and measured by itself."""
    INSIDE_NETWORKS = "inside random networks"
    """Drawn by the kernel suite, and traced inside networks by the runtime's profiler."""
    TRANSFERRED = "transferred"
    """Not measured: it follows from other devices (`latency.transfer.table`)."""

    @classmethod
    def read(cls, text: str) -> "tuple[Origin, str]":
        """The origin and the free note that a text of the column `note` stands for."""
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
"""From where to where each number of a row may lie, by its column in a table's file, whoever says
it: table, journal or device."""

_SETTLED = 0.02
"""A measurement whose 95 % interval is wider than this share of its median is called unstable."""


@dataclass(frozen=True)
class Measurement:
    """Median latency in ms with half the width of its 95 % interval, the number of timed runs,
    the fastest one, and when it was measured (ISO 8601, UTC).

    `sessions`: over how many processes. `converged`: whether the interval became as narrow as
    asked. `memory_bytes`, `temperature_c`, `frequency_mhz`: peak memory, and the device's state
    meanwhile; None where it cannot be read. `note`: advice on it in free words, for example that
    it is unstable; files keep it of rows of origin `ALONE` only.
    `traced_ms`: what an operator takes inside networks by the runtime's own profiler, scaled to
    what the networks take unprofiled; None where it was not traced.
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
        """The measurement that `as_dict` wrote; `TypeError` for unknown or missing names."""
        origin, note = Origin.read(values.get("note", ""))
        return cls(**{**values, "note": note, "origin": origin})

    def as_dict(self) -> dict[str, Any]:
        """Field by field as JSON and CSV files keep it: `note` holds the origin's text, too."""
        values = {**asdict(self), "note": self.note_text}
        del values["origin"]
        return values

    @classmethod
    def from_samples(cls, sessions_ms: Sequence[Sequence[Sequence[float]]]) -> Self:
        """Summarise sessions of samples, each of a few back-to-back runs (ms).

        Runs of a sample share the state that the machine is in, so a sample counts once, by its
        median. The interval takes in what differs between sessions
        (`latency.stats.clustered_median`).
        """
        medians = [[median_interval(sample)[0] for sample in session] for session in sessions_ms]
        median_ms, half_ms = clustered_median(medians)
        samples = [sample for session in sessions_ms for sample in session]
        runs, fastest = sum(map(len, samples)), float(min(map(min, samples)))
        return cls(median_ms, half_ms, runs, fastest, sessions=len(sessions_ms))

    @property
    def relative_ci95(self) -> float:
        """Half the interval as a share of the median."""
        return self.ci95_ms / self.median_ms

    @property
    def is_unstable(self) -> bool:
        """Whether its interval is wide, or is not as narrow as was asked; never of one that was
        measured inside networks only."""
        did_not_settle = self.relative_ci95 > _SETTLED or self.converged is False
        return did_not_settle and not self.is_inside

    @property
    def is_transferred(self) -> bool:
        """Whether it follows from other devices, and was not measured."""
        return self.origin is Origin.TRANSFERRED

    @property
    def is_inside(self) -> bool:
        """Whether it was measured inside networks only: its interval holds what they differ by."""
        return self.origin is Origin.INSIDE_NETWORKS

    @property
    def is_of_suite(self) -> bool:
        """Whether the kernel suite drew it."""
        return self.origin in (Origin.INSIDE_NETWORKS, Origin.SUITE_ALONE)

    @property
    def is_alone(self) -> bool:
        """Whether it was measured by itself, and can be again."""
        return not self.is_transferred and not self.is_inside

    @property
    def note_text(self) -> str:
        """The text of the column `note` in files: the origin where it has one, else the note."""
        return self.origin.value or self.note

    @property
    def low_ms(self) -> float:
        return self.median_ms - self.ci95_ms

    @property
    def high_ms(self) -> float:
        return self.median_ms + self.ci95_ms

    def __str__(self) -> str:
        return f"{format_ms(self.median_ms)} ± {100 * self.relative_ci95:.1f} %"
