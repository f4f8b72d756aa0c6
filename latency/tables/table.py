"""`LatencyTable`: the latency of each operator on one device setting."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from latency.errors import CoverageError, TableError, extra
from latency.graphs.fusion import SUITE, USUAL, Fusion
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.prediction import MEASURED, PREDICTED, OpPrediction, Prediction
from latency.tables.content import TableContent
from latency.tables.csv_file import read_table, write_table
from latency.tables.csv_header import history_lines
from latency.tables.csv_rows import written_rows
from latency.tables.library import find_table
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.timestamps import time_of

if TYPE_CHECKING:
    import pandas

_BY_NAME = (
    "calibrations",
    "validations",
    "circumstances",
    "measured",
    "traced",
    "transfers",
    "failed",
)
"""Fields of the header that are merged name by name."""


@dataclass(frozen=True)
class LatencyTable(TableContent):
    """Measurements of operators on one device setting; a `LatencyModel`.

    Its fields are those of a table's file (`latency.tables.content.TableContent`), and its `source`
    for error messages. Rows may be transferred from other devices (`latency.transfer.table`): then
    `transfers` names the spaces.
    """

    source: str = "table"

    def __getitem__(self, op: OpSpec) -> Measurement:
        """The operator's measurement; `CoverageError` if it is missing."""
        self._require([op])
        return self.rows[op]

    def __contains__(self, op: object) -> bool:
        return op in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[OpSpec]:
        return iter(self.rows)

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """The operators that are missing in the table, each once, in order."""
        return tuple(op for op in dict.fromkeys(ops) if op not in self.rows)

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network; `CoverageError` if it is missing.

        The source is `predicted` if the row was transferred, else `measured`.
        """
        measured = self[op]
        ms = self.in_network_ms.get(op, measured.median_ms)
        half = ms * max(measured.relative_ci95, self._worst_error([op]) or 0.0)
        source = PREDICTED if measured.is_transferred else MEASURED
        return OpPrediction(op, ms, max(0.0, ms - half), ms + half, source)

    def predict(self, network: NetworkSpec) -> Prediction:
        """Latency of a network: the sum of its operators.

        The interval is the table's error on held-out networks (that of transfers only if an
        operator was transferred); without it, the sum of the operators' intervals. Raises
        `CoverageError` with all missing operators.
        """
        self._require(network.parts)
        per_op = tuple(self.predict_op(op) for op in network.parts)
        ms = sum(op.ms for op in per_op)
        error = self._worst_error(network.parts)
        half = sum(op.high_ms - op.ms for op in per_op) if error is None else ms * error
        return Prediction(ms, max(0.0, ms - half), ms + half, per_op)

    @property
    def relative_ci95(self) -> float:
        """Half a 95 % interval of a network's prediction by the least certain validation of a
        space (not of the kernel suite, where kernels are predicted)."""
        spaces = (v for tag, v in self.validations.items() if tag != SUITE)
        return max((v.relative_ci95 for v in spaces), default=0.0)

    @property
    def fusion_rules(self) -> Fusion:
        """The fusion rules of the runtime; the usual ones if the table has none."""
        return USUAL if self.fusion is None else self.fusion

    def header_lines(self) -> dict[str, str]:
        """The header without setting, calibrations and validations, by key."""
        return history_lines(self)

    def stated_error(self, space: str) -> str:
        """The table's error on networks of a space, as text."""
        if sources := self.transfers.get(space):
            return f"{self.validations[space]}, cross-validated; transferred {sources}"
        return f"{self.validations[space]}, never fitted on"

    def merge(self, other: Self) -> Self:
        """Both tables in one; for what both have, the newer one wins.

        Rows are compared by their own times, headers by the tables' `date`; if these are equal,
        `other` wins. Measured rows replace transferred ones of any age: a space that one table has
        measured is no longer transferred, and transferred rows without a transfer are dropped.

        Raises `TableError` if the two were measured in different settings.
        """
        self.require_setting(other.setting)
        known = self._profiled | other._profiled
        ours, theirs = self._without_transfers(known), other._without_transfers(known)
        known_keys = {op.key for op in (*ours.rows, *theirs.rows)}
        old, new = (theirs, ours) if self.date > other.date else (ours, theirs)
        kept = {op for op in ours.rows if op not in theirs.rows or ours._wins(op, theirs)}
        inside = {op: ms for op, ms in theirs.in_network_ms.items() if op not in kept}
        inside |= {op: ms for op, ms in ours.in_network_ms.items() if op in kept}
        headers: dict[str, Any] = {
            name: {**getattr(old, name), **getattr(new, name)} for name in _BY_NAME
        }
        failed = {name: why for name, why in headers["failed"].items() if name not in known_keys}
        return replace(
            theirs,
            setting=new.setting,
            rows={**theirs.rows, **{op: ours.rows[op] for op in kept}},
            in_network_ms=inside,
            fusion=old.fusion if new.fusion is None else new.fusion,
            **(headers | {"failed": failed}),
        )

    @property
    def date(self) -> datetime:
        """When the newest row was measured."""
        header_date = time_of(self.circumstances.get("date", ""))
        return max(map(self._time_of, self.rows), default=header_date)

    def _time_of(self, op: OpSpec) -> datetime:
        """When a row was measured: its own time, or the date of the header."""
        return time_of(self.rows[op].measured_at or self.circumstances.get("date", ""))

    def _wins(self, op: OpSpec, other: Self) -> bool:
        """Whether the row of an operator that both have replaces that of `other`."""
        is_transferred = self.rows[op].is_transferred
        if is_transferred != other.rows[op].is_transferred:
            return not is_transferred
        return self._time_of(op) > other._time_of(op)

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a table by path, by stem, or by the name of the card that it was measured for.

        Names are looked up in the user's data folder, then among the shipped tables
        (`latency.tables.library`). Raises `UsageError` for unknown names, `TableError` (file and
        line) for broken files.
        """
        path = find_table(name)
        return cls(**vars(read_table(path)), source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the table as CSV (`latency.tables.csv_file`), whole or not at all."""
        write_table(self, Path(path))

    def to_frame(self) -> "pandas.DataFrame":
        """One row per operator: its fields, `latency_ms`, `ci95_ms`, `runs`, ... Needs pandas."""
        with extra("pandas"):
            import pandas

        return pandas.DataFrame(list(written_rows(self.rows, self.in_network_ms)))

    @property
    def _profiled(self) -> set[str]:
        """The spaces that were measured operator by operator."""
        return {*self.calibrations, *self.validations} - {*self.transfers}

    def _without_transfers(self, spaces: Iterable[str]) -> Self:
        """The table without its transfers of these spaces."""
        gone = {*spaces} & {*self.transfers}
        if not gone:
            return self
        is_left = len(gone) < len(self.transfers)
        texts: dict[str, Any] = {
            name: {
                space: value for space, value in getattr(self, name).items() if space not in gone
            }
            for name in ("validations", "measured", "transfers")
        }
        rows = {op: row for op, row in self.rows.items() if is_left or not row.is_transferred}
        return replace(self, rows=rows, **texts)

    def _worst_error(self, ops: Iterable[OpSpec]) -> float | None:
        """Half a relative 95 % interval by the least certain validation on networks of such
        operators; None without a validation."""
        spaces = set(self.validations) - {SUITE}
        if not any(self.rows[op].is_transferred for op in ops):
            spaces -= set(self.transfers)
        return max((self.validations[space].relative_ci95 for space in spaces), default=None)

    def require_setting(self, theirs: Setting) -> None:
        """Raise `TableError` unless measurements in a setting may be merged with the table."""
        if self.setting.identity != theirs.identity:
            differing = [
                f"{name} '{ours}' and '{other}'"
                for name, (ours, other) in self.setting.differences(theirs).items()
                if name != "system"
            ]
            raise TableError(
                f"{self.source} was measured in another setting ({'; '.join(differing)}); "
                "tables of different settings cannot be merged"
            )

    def _require(self, ops: Iterable[OpSpec]) -> None:
        missing = self.missing(ops)
        if missing:
            raise CoverageError(
                (op.key for op in missing),
                self.source,
                f"measure them: lat-profile --device {self.setting.device}",
            )
