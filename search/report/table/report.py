"""The report of one table."""

from collections.abc import Iterator

from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from search.report.named_spaces import space_of
from search.report.page import Page, Part, Picture
from search.report.table import facts
from search.report.table.figures import (
    latency_figure,
    rates,
    roof,
    roof_figure,
    spread_figure,
    stages_figure,
)
from search.report.table.held_out import held_out_figure, held_out_grid, held_out_text, leave_out


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
            "unstable": str(len(facts.unstable_ops(table))),
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
            "Circumstances": [facts.setting_grid(table)],
        },
    )


def _arithmetic(table: LatencyTable) -> Iterator[Part]:
    if not any(op.macs for op in table):
        return
    listed = ", ".join(f"{role} {1 / cost:.3g} GMAC/s" for role, _, cost in rates(table))
    yield Picture(
        "latency",
        "Latency of each operator measured alone against its multiply-accumulates. Lines: the "
        "launch of one layer and its arithmetic alone, at the rates of the roofline fitted to all "
        f"rows ({listed}). Operators above the lines spend the rest on memory traffic.",
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
    for name, title, ops in _groups(table):
        if (figure := stages_figure(table, ops)) is not None:
            yield Picture(
                f"stages-{name}",
                f"{title}: latency in ms of each inverted bottleneck measured alone, by input "
                "size, channels and stride (rows), kernel and expansion (columns).",
                figure,
            )


def _groups(table: LatencyTable) -> Iterator[tuple[str, str, list[OpSpec]]]:
    """(name, title, operators) of each shipped space in the table, and of the rest of the table."""
    tags = dict.fromkeys([*table.calibrations, *table.validations])
    spaces = {tag: space_of(tag, table.setting.batch) for tag in tags}
    groups = {tag: [*space.operators] for tag, space in spaces.items() if space is not None}
    for tag, ops in groups.items():
        yield tag.replace("@", "-"), tag, ops
    rest = {*table}.difference(*groups.values())
    title = "Operators of no shipped space" if groups else "All operators"
    yield "others" if groups else "all", title, [op for op in table if op in rest]


def _held_out(table: LatencyTable) -> Iterator[Part]:
    if found := leave_out(table):
        yield Picture("predicted", held_out_text(found), held_out_figure(found))
        yield held_out_grid(found)
    if table.validations:
        yield facts.validation_grid(table)


def _stability(table: LatencyTable) -> Iterator[Part]:
    yield Picture(
        "spread",
        "Half the 95 % interval of each operator's median, in percent of it. Operators measured "
        "inside networks differ from one network to the next.",
        spread_figure(table),
    )
    for grid in (facts.unstable_grid, facts.unstable_notes, facts.drift_grid):
        if (made := grid(table)).rows:
            yield made
