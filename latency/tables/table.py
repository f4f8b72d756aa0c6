"""`LatencyTable`: the latency of each operator on one device setting."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from latency.errors import CoverageError, TableError, extra
from latency.graphs.fusion import SUITE, USUAL, Fusion
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.prediction import MEASURED, PREDICTED, OpPrediction, Prediction
from latency.tables.content import TableContent
from latency.tables.csv_file import read_table, table_rows, write_table
from latency.tables.csv_header import history_lines
from latency.tables.library import find_table
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.timestamps import is_newer, newest, time_of

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class LatencyTable(TableContent):
    """Measurements of operators on one device setting; a `LatencyModel`.

    Its fields are those of a table's file (`latency.tables.content.TableContent`). Rows may be
    transferred from other devices (`latency.transfer.table`): then `transfers` names the spaces.
    """

    source: str = "table"
    """Where the table was read from, for error messages."""

    def __getitem__(self, op: OpSpec) -> Measurement:
        """The operator's measurement; `CoverageError` where it is missing."""
        self._require([op])
        return self.rows[op]

    def __contains__(self, op: object) -> bool:
        return op in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[OpSpec]:
        return iter(self.rows)

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """Those of `ops` that are missing in the table, each once, in order."""
        return tuple(op for op in dict.fromkeys(ops) if op not in self.rows)

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network; `CoverageError` where it is missing.

        It is `predicted` where the row was transferred, else `measured`.
        """
        measured = self[op]
        ms = self.in_network_ms.get(op, measured.median_ms)
        half = ms * max(measured.relative_ci95, self._worst_error([op]) or 0.0)
        source = PREDICTED if measured.is_transferred else MEASURED
        return OpPrediction(op, ms, max(0.0, ms - half), ms + half, source)

    def predict(self, network: NetworkSpec) -> Prediction:
        """Latency of a network: the sum of its operators.

        The interval comes from the table's error on held-out networks (on that of transfers only
        where an operator was transferred); a table that has none adds up its operators' intervals,
        since errors of one machine need not cancel. Raises `CoverageError` with all operators
        that are missing.
        """
        self._require(network.parts)
        per_op = tuple(self.predict_op(op) for op in network.parts)
        ms = sum(op.ms for op in per_op)
        error = self._worst_error(network.parts)
        half = sum(op.high_ms - op.ms for op in per_op) if error is None else ms * error
        return Prediction(ms, max(0.0, ms - half), ms + half, per_op)

    @property
    def relative_ci95(self) -> float:
        """Half a 95 % interval of a network's prediction by the least certain validation. That of
        the kernel suite is of networks whose kernels are predicted: it does not count here."""
        spaces = (v for tag, v in self.validations.items() if tag != SUITE)
        return max((v.relative_ci95 for v in spaces), default=0.0)

    @property
    def fusion_rules(self) -> Fusion:
        """The fusion rules of the runtime, as the kernel suite found them; the usual ones where
        the table has none."""
        return USUAL if self.fusion is None else self.fusion

    def header_lines(self) -> dict[str, str]:
        """The history of the table as its file's header has it, by the keys of the lines: free
        circumstances, fusion rules, and what was measured, traced, transferred or failed."""
        return history_lines(self)

    def stated_error(self, space: str) -> str:
        """The error that the table states of itself on networks of a space, in words."""
        if sources := self.transfers.get(space):
            return f"{self.validations[space]}, cross-validated; transferred {sources}"
        return f"{self.validations[space]}, never fitted on"

    def merge(self, other: Self) -> Self:
        """The table `other` with what this one has besides; where both know, the newer wins.

        Rows are compared by their own times, what headers say by the tables' `date`; of rows or
        tables as old as each other, or of which one says no time, that of `other` wins.

        But what was measured wins over what was transferred, either way: row by row, and where
        one has measured a space that the other has transferred, that transfer is forgotten, and
        rows behind which no transfer is left are dropped.

        Raises `TableError` where the two were measured in different settings.
        """
        self.require_setting(other.setting)
        known = self._profiled | other._profiled
        ours, theirs = self._without_transfers(known), other._without_transfers(known)
        known_keys = {op.key for op in (*ours.rows, *theirs.rows)}
        old, new = (theirs, ours) if is_newer(self.date, other.date) else (ours, theirs)
        failed = {**old.failed, **new.failed}
        stay = {op for op in ours.rows if op not in theirs.rows or ours._wins(op, theirs)}
        return replace(
            theirs,
            setting=new.setting,
            rows={**theirs.rows, **{op: ours.rows[op] for op in stay}},
            in_network_ms={
                **{op: ms for op, ms in theirs.in_network_ms.items() if op not in stay},
                **{op: ms for op, ms in ours.in_network_ms.items() if op in stay},
            },
            calibrations={**old.calibrations, **new.calibrations},
            validations={**old.validations, **new.validations},
            circumstances={**old.circumstances, **new.circumstances},
            measured={**old.measured, **new.measured},
            traced={**old.traced, **new.traced},
            transfers={**old.transfers, **new.transfers},
            failed={name: why for name, why in failed.items() if name not in known_keys},
            fusion=old.fusion if new.fusion is None else new.fusion,
        )

    @property
    def date(self) -> datetime | None:
        """When the newest row was measured; where no row says when, the header's date; None where
        that says nothing either."""
        return newest(row.measured_at for row in self.rows.values()) or self._header_date

    @property
    def _header_date(self) -> datetime | None:
        return time_of(self.circumstances.get("date", ""))

    def _time_of(self, op: OpSpec) -> datetime | None:
        """When a row was measured: by itself, or else by the header."""
        return time_of(self.rows[op].measured_at) or self._header_date

    def _wins(self, op: OpSpec, other: Self) -> bool:
        """Whether the row of an operator that both have is to stay rather than that of `other`."""
        row, theirs = self.rows[op], other.rows[op]
        if row.is_transferred != theirs.is_transferred:
            return theirs.is_transferred
        return is_newer(self._time_of(op), other._time_of(op))

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Read a table by path, by stem, or by the name of the card that it was measured for.

        Looks for names in the user's data folder, then among the shipped tables
        (`latency.tables.library`). Raises `UsageError` for unknown names, `TableError` (file and
        line) for broken files.
        """
        path = find_table(name)
        return cls(**vars(read_table(path)), source=str(path))

    def save(self, path: str | Path) -> None:
        """Write the table as CSV (`latency.tables.csv_file`), whole or not at all."""
        write_table(self, Path(path))

    def to_frame(self) -> "pandas.DataFrame":
        """One row an operator: its columns, `latency_ms`, `ci95_ms`, `runs`, ... Needs pandas."""
        with extra("pandas"):
            import pandas

        return pandas.DataFrame(list(table_rows(self)))

    @property
    def _profiled(self) -> set[str]:
        """The spaces that were measured operator by operator."""
        return {*self.calibrations, *self.validations} - {*self.transfers}

    def _without_transfers(self, spaces: Iterable[str]) -> Self:
        """The table as if these spaces had not been transferred."""
        gone = {*spaces} & {*self.transfers}
        if not gone:
            return self
        is_left = len(gone) < len(self.transfers)
        return replace(
            self,
            rows={op: row for op, row in self.rows.items() if is_left or not row.is_transferred},
            validations=_without(self.validations, gone),
            measured=_without(self.measured, gone),
            transfers=_without(self.transfers, gone),
        )

    def _worst_error(self, ops: Iterable[OpSpec]) -> float | None:
        """Half a 95 % interval, relative, by the least certain validation on networks
        of such operators; None where there is none."""
        spaces = set(self.validations) - {SUITE}
        if not any(self.rows[op].is_transferred for op in ops):
            spaces -= set(self.transfers)
        return max((self.validations[space].relative_ci95 for space in spaces), default=None)

    def require_setting(self, theirs: Setting) -> None:
        """Raise `TableError` unless what is measured in a setting may be merged with the table."""
        ours = self.setting
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

    def _require(self, ops: Iterable[OpSpec]) -> None:
        missing = self.missing(ops)
        if missing:
            raise CoverageError(
                (op.key for op in missing),
                self.source,
                f"measure them: lat-profile --device {self.setting.device}",
            )


def _without(values: Mapping[str, Any], gone: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in gone}
