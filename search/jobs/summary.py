"""The results of a profile in numbers."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable


@dataclass(frozen=True)
class ProfileSummary:
    """A table as a profile wrote it to `path`, and how narrow its intervals are.

    `asked_ci95`: half the 95 % interval that the card asks for, relative to the median, as all
    intervals here.
    """

    table: LatencyTable
    path: Path
    asked_ci95: float

    @cached_property
    def own(self) -> list[Measurement]:
        """Operators that were measured for a space."""
        rows = self.table.rows.values()
        return [row for row in rows if not (row.is_transferred or row.is_of_suite)]

    @cached_property
    def kernels(self) -> list[Measurement]:
        """Kernels that were measured for the suite."""
        return [row for row in self.table.rows.values() if row.is_of_suite]

    @property
    def transferred(self) -> int:
        """The number of operators that were transferred from other devices."""
        return sum(row.is_transferred for row in self.table.rows.values())

    @property
    def median_ci95(self) -> float:
        """Of the space's operators; of the kernels, or else of all rows, if it has none."""
        return float(np.median(self._intervals))

    @property
    def kernels_ci95(self) -> float:
        """Median over the kernels."""
        return float(np.median([row.relative_ci95 for row in self.kernels]))

    @property
    def within_asked(self) -> float:
        """The share of operators, as in `median_ci95`, whose interval is as narrow as asked."""
        return float(np.mean(self._intervals <= self.asked_ci95))

    @property
    def unsteady(self) -> list[tuple[str, list[str]]]:
        """Notes on measurements, and the keys of the operators that have them, widest interval
        first; the most frequent note first."""
        noted: dict[str, list[str]] = {}
        for op, row in sorted(self.table.rows.items(), key=lambda item: -item[1].relative_ci95):
            if row.note:
                noted.setdefault(row.note, []).append(op.key)
        return sorted(noted.items(), key=lambda item: -len(item[1]))

    def to_dict(self) -> dict[str, object]:
        """The summary as a JSON object."""
        table = self.table
        return {
            "table": str(self.path),
            "hardware": table.setting.hardware,
            "runtime": table.setting.runtime,
            "operators": len(table),
            "median_ci95": self.median_ci95,
            "within_asked": self.within_asked,
            "failed": dict(table.failed),
            "validation": {
                tag: {"networks": v.networks, "mean_error": v.mean, "worst_error": v.worst}
                for tag, v in table.validations.items()
            },
            "transferred": table.transfers,
        }

    @property
    def _intervals(self) -> np.ndarray:
        rows = self.own or self.kernels or list(self.table.rows.values())
        return np.array([row.relative_ci95 for row in rows])
