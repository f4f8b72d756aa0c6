"""The reports of two tables and of two searches side by side."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import plotly.graph_objects as go

from latency.tables.comparison import TableDifference, diff
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.look import BLUE, GREY, ORANGE, RED, log_axis, points, styled, thin_bars
from search.report.page import Grid, Page, Part, Picture, Text
from search.report.run.blocks import blocks_figure
from search.report.run.figures import budget_figure, curves_figure
from search.report.run.report import drawing, summary
from search.report.run.saved_run import SavedRun

_MOST_ROWS = 25
_MARGIN = 1.2
"""Around the ratios, as a factor; intervals that reach beyond it are cut off."""
_ASKED = ("target", "space", "data", "strategy", "seed", "table", "version")


def tables_page(a: LatencyTable, b: LatencyTable) -> Page:
    """The differences between two tables, and which are significant
    (`latency.tables.comparison`)."""
    found = diff(a, b)
    facts = {
        "common operators": str(len(found.common)),
        "only in A": str(len(found.only_a)),
        "only in B": str(len(found.only_b)),
    }
    if found.common:
        facts |= {
            "B / A, median": f"{found.median_ratio:.3f}",
            "significant differences": f"{len(found.significant)} (5 %, Holm)",
            "sign test": f"p = {found.sign_p_value:.2g}",
        }
    values_a, values_b = (
        {name: str(values[i]) for name, values in found.settings.items()} | table.header_lines()
        for i, table in enumerate((a, b))
    )
    same = "Settings and circumstances are the same."
    sections = {
        "Operators": [*_operators(found)],
        "Settings": [_differences(values_a, values_b, "Differences", same)],
    }
    return Page("Two tables", f"A: {a.source}; B: {b.source}", facts, sections)


def _operators(found: TableDifference) -> Iterator[Part]:
    if not found.common:
        return
    yield Picture(
        "ratios",
        "Latency in B divided by latency in A of each common operator, with 95 % intervals (cut "
        "off at the edges of the figure), against its latency in A.",
        _ratio_figure(found),
    )
    ranked = sorted(found.common, key=lambda one: (not one.significant, -abs(math.log(one.ratio))))
    rows = [
        (
            one.op.key,
            format_ms(one.a_ms),
            format_ms(one.b_ms),
            f"{one.ratio:.3f}{' *' * one.significant}",
            f"{one.low:.3f} to {one.high:.3f}",
        )
        for one in ranked[:_MOST_ROWS]
    ]
    header = ("operator", "A", "B", "B / A", "95 %")
    yield Grid(rows, header, "The largest differences; * is significant")


def _ratio_figure(found: TableDifference) -> go.Figure:
    figure = go.Figure()
    for is_significant, name, colour in (
        (False, "not significant", BLUE),
        (True, "significant", RED),
    ):
        ops = [one for one in found.common if one.significant is is_significant]
        if ops:
            ratio, low, high = zip(*((one.ratio, one.low, one.high) for one in ops), strict=True)
            hover = [
                f"{one.op.key}<br>{format_ms(one.a_ms)} and {format_ms(one.b_ms)}: {one.ratio:.3f}"
                for one in ops
            ]
            a_ms = [one.a_ms for one in ops]
            bars = thin_bars(ratio, low, high, colour)
            label = f"{name} ({len(ops)})"
            figure.add_trace(points(a_ms, ratio, label, colour, hover, error_y=bars))
    figure.add_hline(1, line={"color": GREY, "width": 1})
    figure.add_hline(found.median_ratio, line={"color": ORANGE, "width": 2, "dash": "dash"})
    styled(figure, 440)
    figure.update_xaxes(log_axis("in A, ms"))
    ratios = [found.median_ratio, 1.0, *(one.ratio for one in found.common)]
    ends = np.log10([min(ratios) / _MARGIN, max(ratios) * _MARGIN]).tolist()
    return figure.update_yaxes(log_axis("B / A"), range=ends)


def runs_page(a: SavedRun, b: SavedRun) -> Page:
    """Two searches side by side."""
    runs = {"A": a, "B": b}
    networks = [
        Picture(
            "network",
            "The networks found, block by block.",
            blocks_figure([drawing(run, name) for name, run in runs.items()]),
        ),
        Picture(
            "budget",
            "Predictions of the latency models for the networks, and measurements, in percent of "
            "each budget, with 95 % intervals.",
            budget_figure(runs),
        ),
    ]
    if (curves := curves_figure(runs)) is not None:
        networks.append(Picture("curves", f"A: {a.title}; B: {b.title}.", curves))
    asked_a, asked_b = (
        {name: str(getattr(run.result, name)) for name in _ASKED}
        | {name.replace("_", " "): str(value) for name, value in run.result.settings.items()}
        for run in (a, b)
    )
    grids = [
        Grid(_side_by_side(summary(a), summary(b)), ("", "A", "B")),
        _differences(asked_a, asked_b, "Different options", "The options are the same."),
    ]
    sections: dict[str, list[Part]] = {"Networks and searches": [*networks], "Side by side": grids}
    return Page("Two searches", f"A: {a.folder}; B: {b.folder}", {}, sections)


def _side_by_side(a: Mapping[str, str], b: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(name, value in `a`, value in `b`)."""
    return [(name, a.get(name, ""), b.get(name, "")) for name in dict.fromkeys([*a, *b])]


def _differences(a: Mapping[str, str], b: Mapping[str, str], caption: str, without: str) -> Part:
    """The values by name that differ, or the text `without` if there are none."""
    rows = [row for row in _side_by_side(a, b) if row[1] != row[2]]
    return Grid(rows, ("", "A", "B"), caption, wraps=True) if rows else Text(without)
