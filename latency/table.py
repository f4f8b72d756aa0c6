"""`LatencyTable`: what each operator costs on one device setting."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from latency.errors import CoverageError, TableError
from latency.formats import Setting, TableContent, read_table, table_rows, write_table
from latency.library import find_table
from latency.measurement import Measurement
from latency.model import MEASURED, OpPrediction, Prediction
from latency.network import NetworkSpec
from latency.ops import OpSpec

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class LatencyTable(TableContent):
    """Measurements of operators on one device setting; a `LatencyModel`.

    `in_network_ms` holds what an operator costs inside a network where calibration found it to
    differ from its measurement alone; `calibrations`, per space, how that was found.
    `validations`: per space, the table's error on networks that it was not fitted on.
    `circumstances`: what else was recorded while measuring (clock, date, ...).
    """

    source: str = "table"
    """Where the table was read from, for error messages."""

    def __getitem__(self, op: OpSpec) -> Measurement:
        """The operator's measurement; `CoverageError` where the table lacks it."""
        self._require([op])
        return self.rows[op]

    def __contains__(self, op: object) -> bool:
        return op in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[OpSpec]:
        return iter(self.rows)

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """Those of `ops` that the table lacks, each once, in order."""
        return tuple(op for op in dict.fromkeys(ops) if op not in self.rows)

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network; `CoverageError` where the table lacks it."""
        measured = self[op]
        ms = self.in_network_ms.get(op, measured.median_ms)
        half = ms * max(measured.relative_ci95, self.relative_ci95)
        return OpPrediction(op, ms, max(0.0, ms - half), ms + half, MEASURED)

    def predict(self, network: NetworkSpec) -> Prediction:
        """Latency of a network: the sum of its operators.

        The interval comes from the table's error on held-out networks; a table that has none
        adds up its operators' intervals, since errors of one machine need not cancel. Raises
        `CoverageError` with all operators that the table lacks.
        """
        self._require(network.ops)
        per_op = tuple(self.predict_op(op) for op in network.ops)
        ms = sum(op.ms for op in per_op)
        if self.validations:
            half = ms * self.relative_ci95
        else:
            half = sum(op.high_ms - op.ms for op in per_op)
        return Prediction(ms, max(0.0, ms - half), ms + half, per_op)

    @property
    def relative_ci95(self) -> float:
        """Half a 95 % interval of a network's prediction by the least certain validation."""
        return max((v.relative_ci95 for v in self.validations.values()), default=0.0)

    def merge(self, other: Self) -> Self:
        """The table `other` with what this one has besides; where both know, `other` wins.

        Raises `TableError` where the two were measured in different settings.
        """
        ours, theirs = self.setting, other.setting
        if ours.identity != theirs.identity:
            differing = [
                f"{f.name} '{getattr(ours, f.name)}' and '{getattr(theirs, f.name)}'"
                for f in fields(Setting)
                if f.name != "system" and getattr(ours, f.name) != getattr(theirs, f.name)
            ]
            raise TableError(
                f"{self.source} was measured in another setting ({'; '.join(differing)}); "
                "tables of two settings are never mixed"
            )
        kept = {op: ms for op, ms in self.in_network_ms.items() if op not in other.rows}
        return replace(
            other,
            rows={**self.rows, **other.rows},
            in_network_ms={**kept, **other.in_network_ms},
            calibrations={**self.calibrations, **other.calibrations},
            validations={**self.validations, **other.validations},
            circumstances={**self.circumstances, **other.circumstances},
        )

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a table by path, by stem, or by the name of the card that it was measured for.

        Looks for names in the user's data folder, then among the shipped tables
        (`latency.library`). Raises `UsageError` for unknown names, `TableError` (file and line)
        for broken files.
        """
        path = find_table(name)
        return cls(**vars(read_table(path)), source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the table as CSV (`latency.formats`), whole or not at all."""
        write_table(self, Path(path))

    def to_frame(self) -> "pandas.DataFrame":
        """One row an operator: its columns, `latency_ms`, `ci95_ms`, `runs`, ..."""
        import pandas

        return pandas.DataFrame(list(table_rows(self)))

    def _require(self, ops: Iterable[OpSpec]) -> None:
        lacking = self.missing(ops)
        if lacking:
            raise CoverageError(
                (op.key for op in lacking),
                self.source,
                f"measure them: lat-profile --device {self.setting.device}",
            )
