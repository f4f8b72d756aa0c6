"""What a table records about its measurements, as tables of text."""

from dataclasses import asdict, replace

from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.page import Grid

_MOST_ROWS = 20


def setting_grid(table: LatencyTable) -> Grid:
    """The setting and the circumstances of the measurements."""
    others = replace(table, measured={}, fusion=None).header_lines()
    header = {**asdict(table.setting), **others, "table": table.source}
    rows = [(name, str(value)) for name, value in header.items() if value != ""]
    return Grid(rows, caption="Measured with")


def validation_grid(table: LatencyTable) -> Grid:
    """The error of the table on networks that it was not fitted on."""
    rows = [
        (
            tag,
            str(one.networks),
            *(f"{100 * share:.2f} %" for share in (one.mean, one.worst, one.relative_ci95)),
        )
        for tag, one in table.validations.items()
    ]
    header = ("", "networks", "mean error", "worst", "95 % interval, ±")
    return Grid(rows, header, "Error on whole networks that the table was not fitted on")


def drift_grid(table: LatencyTable) -> Grid:
    """The state of the machine while each space was measured."""
    return Grid([*table.measured.items()], caption="The machine during the measurements")


def unstable_ops(table: LatencyTable) -> list[OpSpec]:
    """Operators measured alone with an unstable measurement, the widest interval first."""
    unstable = [op for op, row in table.rows.items() if row.is_unstable]
    return sorted(unstable, key=lambda op: -table[op].relative_ci95)


def unstable_grid(table: LatencyTable) -> Grid:
    """The unstable operators with the widest intervals."""
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
    caption = f"{len(ops)} of {alone} operators measured alone are unstable; the widest intervals:"
    return Grid(rows, ("operator", "alone", "± 95 %", "runs"), caption)


def unstable_notes(table: LatencyTable) -> Grid:
    """The notes on unstable operators, each once with the operators that have it."""
    keys_of: dict[str, list[str]] = {}
    for op in unstable_ops(table):
        if note := table[op].note_text:
            keys_of.setdefault(note, []).append(op.key)
    return Grid(
        [(note, _listed(keys)) for note, keys in keys_of.items()], ("note", "operators"), wraps=True
    )


def _listed(keys: list[str]) -> str:
    more = len(keys) - _MOST_ROWS
    return ", ".join(keys[:_MOST_ROWS]) + (f" and {more} more" if more > 0 else "")
