"""The report of one table."""

from collections.abc import Iterator
from dataclasses import asdict, replace

from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.page import Grid, Page, Part, Picture
from search.report.table.figures import (
    latency_figure,
    roof,
    roof_figure,
    spread_figure,
    stages_figure,
)
from search.report.table.held_out import held_out_figure, held_out_text, leave_out

_MOST_ROWS = 20


def table_page(table: LatencyTable) -> Page:
    """The report of a table. Takes seconds: it predicts a fifth of the operators from the
    others."""
    setting = table.setting
    errors = {f"mean error, {tag}": one.mean for tag, one in table.validations.items()}
    return Page(
        f"{setting.hardware}, {setting.runtime}",
        f"Latency table {table.source}",
        {
            "operators": str(len(table)),
            "unstable": str(len(_unstable_ops(table))),
            **{label: f"{100 * error:.2f} %" for label, error in errors.items()},
            "threads": str(setting.threads),
            "precision": setting.precision,
            "batch": str(setting.batch),
        },
        {
            "Latency and arithmetic": [*_arithmetic(table)],
            "Kernel, expansion and stage": [*_stages(table)],
            "Predicted and measured": [*_held_out(table)],
            "Drift and unstable operators": [*_stability(table)],
            "Circumstances": [setting_grid(table)],
        },
    )


def _arithmetic(table: LatencyTable) -> Iterator[Part]:
    if not any(op.macs for op in table):
        return
    yield Picture(
        "latency",
        "Latency of each operator measured alone against its multiply-accumulates.",
        latency_figure(table),
    )
    peak, bandwidth = roof(table)
    yield Picture(
        "roofline",
        "Multiply-accumulates per second against multiply-accumulates per byte (activations and "
        f"weights in float32). The roof, {peak:.3g} GMAC/s and {bandwidth:.3g} GB/s, is the "
        "highest rate and the highest bandwidth of any operator whose 95 % interval is within "
        "10 %.",
        roof_figure(table),
    )


def _stages(table: LatencyTable) -> Iterator[Part]:
    if (figure := stages_figure(table)) is not None:
        yield Picture(
            "stages",
            "Latency in ms of each inverted bottleneck measured alone, by input size, channels and "
            "stride (rows), kernel and expansion (columns).",
            figure,
        )


def _held_out(table: LatencyTable) -> Iterator[Part]:
    if found := leave_out(table):
        yield Picture("predicted", held_out_text(found), held_out_figure(found))
    if table.validations:
        yield _validation_grid(table)


def _stability(table: LatencyTable) -> Iterator[Part]:
    yield Picture(
        "spread",
        "Half the 95 % interval of each operator's median, in percent of it. Operators measured "
        "inside networks differ from one network to the next.",
        spread_figure(table),
    )
    if _unstable_ops(table):
        yield _unstable_grid(table)
    if table.measured:
        yield Grid([*table.measured.items()], caption="The machine during the measurements")


def setting_grid(table: LatencyTable) -> Grid:
    """The setting and the circumstances of the measurements."""
    others = replace(table, measured={}, fusion=None).header_lines()
    header = {**asdict(table.setting), **others, "table": table.source}
    rows = [(name, str(value)) for name, value in header.items() if value != ""]
    return Grid(rows, caption="Measured with")


def _validation_grid(table: LatencyTable) -> Grid:
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


def _unstable_ops(table: LatencyTable) -> list[OpSpec]:
    """Operators measured alone with an unstable measurement, the widest interval first."""
    unstable = [op for op, row in table.rows.items() if row.is_unstable]
    return sorted(unstable, key=lambda op: -table[op].relative_ci95)


def _unstable_grid(table: LatencyTable) -> Grid:
    """The unstable operators with the widest intervals."""
    ops = _unstable_ops(table)
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
