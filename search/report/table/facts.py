"""What a table tells of itself, as tables of words."""

from dataclasses import asdict, replace

from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.page import Grid

_MOST_ROWS = 20


def setting_grid(table: LatencyTable) -> Grid:
    """The setting and the circumstances that the table was measured in."""
    others = replace(table, measured={}, fusion=None).header_lines()
    header = {**asdict(table.setting), **others}
    facts = {name: str(value) for name, value in header.items() if value != ""}
    facts["table"] = table.source
    return Grid(list(facts.items()), caption="Measured with")


def validation_grid(table: LatencyTable) -> Grid | None:
    """The table's error on networks that it was not fitted on; None where it states none."""
    rows = [
        (
            tag,
            str(one.networks),
            *(f"{100 * x:.2f} %" for x in (one.mean, one.worst, one.relative_ci95)),
        )
        for tag, one in table.validations.items()
    ]
    header = ("", "networks", "mean error", "worst", "95 % interval, ±")
    return Grid(rows, header, "Error on whole networks, never fitted on") if rows else None


def drift_grid(table: LatencyTable) -> Grid | None:
    """What was recorded of the machine while each space was measured; None where nothing was."""
    rows = list(table.measured.items())
    return Grid(rows, caption="The machine meanwhile") if rows else None


def unstable_ops(table: LatencyTable) -> list[OpSpec]:
    """Operators measured alone whose measurement did not settle, the least certain first."""
    unstable = [op for op, row in table.rows.items() if row.is_unstable]
    return sorted(unstable, key=lambda op: -table[op].relative_ci95)


def unstable_grid(table: LatencyTable) -> Grid | None:
    """The least certain operators; None where all settled."""
    ops = unstable_ops(table)
    rows = [
        (
            op.key,
            format_ms(table[op].median_ms),
            f"{100 * table[op].relative_ci95:.1f} %",
            str(table[op].runs),
        )
        for op in ops[:_MOST_ROWS]
    ]
    alone = sum(not row.is_inside for row in table.rows.values())
    caption = f"{len(ops)} of {alone} operators measured alone did not settle; the least certain:"
    header = ("operator", "alone", "± 95 %", "runs")
    return Grid(rows, header, caption) if rows else None


def unstable_notes(table: LatencyTable) -> Grid | None:
    """What was noted of the operators that did not settle, each note once with the operators that
    it is of; None where nothing was."""
    of_note: dict[str, list[str]] = {}
    for op in unstable_ops(table):
        if note := table[op].note_text:
            of_note.setdefault(note, []).append(op.key)
    rows = [(note, _named(keys)) for note, keys in of_note.items()]
    return Grid(rows, ("noted", "of"), wraps=True) if rows else None


def _named(keys: list[str]) -> str:
    more = len(keys) - _MOST_ROWS
    return ", ".join(keys[:_MOST_ROWS]) + (f" and {more} more" if more > 0 else "")
