"""The report of one table."""

from collections.abc import Iterator, Sequence

from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from search.report.named_spaces import space_of
from search.report.page import Page, Part, Picture, Section
from search.report.table.facts import (
    drift_grid,
    setting_grid,
    unstable_grid,
    unstable_notes,
    unstable_ops,
    validation_grid,
)
from search.report.table.figures import (
    latency_figure,
    rates,
    roof,
    roof_figure,
    spread_figure,
    stages_figure,
)
from search.report.table.held_out import held_out_figure, held_out_grid, held_out_words, leave_out


def table_page(table: LatencyTable) -> Page:
    """The report of a table. A fifth of its operators is predicted from the others meanwhile,
    which takes seconds."""
    sections = (
        Section("Latency and arithmetic", list(_arithmetic(table))),
        Section("Kernel, expansion and stage", list(_stages(table))),
        Section("Predicted and measured", list(_held_out(table))),
        Section("Drift and unstable operators", list(_stability(table))),
        Section("Circumstances", [setting_grid(table)]),
    )
    setting = table.setting
    return Page(
        f"{setting.hardware}, {setting.runtime}",
        f"Latency table {table.source}",
        summary(table),
        [section for section in sections if section.parts],
    )


def summary(table: LatencyTable) -> list[tuple[str, str]]:
    """A table in a glance: (what, value)."""
    setting = table.setting
    return [
        ("operators", str(len(table))),
        ("did not settle", str(len(unstable_ops(table)))),
        *((f"mean error, {tag}", f"{100 * v.mean:.2f} %") for tag, v in table.validations.items()),
        ("threads", str(setting.threads)),
        ("precision", setting.precision),
        ("batch", str(setting.batch)),
    ]


def _arithmetic(table: LatencyTable) -> Iterator[Part]:
    if not any(op.macs for op in table):
        return
    told = ", ".join(f"{role} {1 / cost:.3g} GMAC/s" for role, _, cost in rates(table))
    yield Picture(
        "latency",
        "Latency of each operator measured alone against its multiply-accumulates. Lines: what "
        "launching one layer and its arithmetic alone would take, at the rates of the roofline "
        f"fitted to all rows ({told}); what lies above them is memory traffic.",
        latency_figure(table),
    )
    peak, bandwidth = roof(table)
    yield Picture(
        "roofline",
        "Multiply-accumulates a second against multiply-accumulates a byte (activations and "
        f"weights in float32). The roof, {peak:.3g} GMAC/s and {bandwidth:.3g} GB/s, is the "
        "highest rate and the highest bandwidth that any operator reached whose 95 % interval is "
        "within 10 %.",
        roof_figure(table),
    )


def _stages(table: LatencyTable) -> Iterator[Part]:
    for name, told, ops in _groups(table):
        figure = stages_figure(table, ops)
        if figure is not None:
            yield Picture(
                f"stages-{name}",
                f"{told}: milliseconds of each inverted bottleneck measured alone, by input size, "
                "channels and stride (rows), kernel and expansion (columns).",
                figure,
            )


def _groups(table: LatencyTable) -> Iterator[tuple[str, str, Sequence[OpSpec]]]:
    """(name, what it is, operators) of each space that is known here, and of the rest of the
    table."""
    tags = dict.fromkeys([*table.calibrations, *table.validations])
    known = {tag: space_of(tag, table.setting.batch) for tag in tags}
    groups = {tag: space.operators for tag, space in known.items() if space is not None}
    for tag, ops in groups.items():
        yield tag.replace("@", "-"), tag, ops
    rest = {*table}.difference(*groups.values())
    told = "Operators of no shipped space" if groups else "All operators"
    yield ("others" if groups else "all"), told, [op for op in table if op in rest]


def _held_out(table: LatencyTable) -> Iterator[Part]:
    found = leave_out(table)
    if found:
        yield Picture("predicted", held_out_words(found), held_out_figure(found))
        yield held_out_grid(found)
    if (grid := validation_grid(table)) is not None:
        yield grid


def _stability(table: LatencyTable) -> Iterator[Part]:
    yield Picture(
        "spread",
        "How wide the 95 % interval of each operator's median is, as a share of it. Those measured "
        "inside networks differ from one network to the next.",
        spread_figure(table),
    )
    grids = unstable_grid(table), unstable_notes(table), drift_grid(table)
    yield from (grid for grid in grids if grid is not None)
