"""The report of two tables, or of two searches, side by side."""

import math
from collections.abc import Iterator, Sequence

import plotly.graph_objects as go

from latency.tables.comparison import OpDifference, TableDifference, diff
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.look import BLUE, GREY, ORANGE, RED, faded, log_axis, styled
from search.report.page import Grid, Page, Part, Picture, Section, Words
from search.report.run.blocks import blocks_figure
from search.report.run.figures import budgets_figure, curves_figure
from search.report.run.report import drawing, summary
from search.report.run.saved_run import SavedRun

_MOST_ROWS = 25
_ROOM = 1.2
"""Above and below the ratios, as a factor; intervals that reach beyond are cut off."""


def tables_page(a: LatencyTable, b: LatencyTable) -> Page:
    """What differs between two tables, and which differences are more than chance
    (`latency.tables.comparison`)."""
    found = diff(a, b)
    facts = [
        ("common operators", str(len(found.common))),
        ("only in A", str(len(found.only_a))),
        ("only in B", str(len(found.only_b))),
    ]
    if found.common:
        facts += [
            ("B over A, median", f"{found.median_ratio:.3f}"),
            ("differ significantly", f"{len(found.significant)} (5 %, Holm)"),
            ("sign test", f"p = {found.sign_p_value:.2g}"),
        ]
    sections = (
        Section("Operators", list(_operators(found))),
        Section("Settings", [_settings(a, b, found)]),
    )
    shown = [section for section in sections if section.parts]
    return Page("Two tables", f"A: {a.source}; B: {b.source}", facts, shown)


def _operators(found: TableDifference) -> Iterator[Part]:
    if not found.common:
        return
    yield Picture(
        "ratios",
        "How many times as long each common operator takes in B as in A, with 95 % intervals, cut "
        "off at the figure's edges, against its latency in A.",
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
    yield Grid(
        rows, ("operator", "A", "B", "B / A", "95 %"), "The largest differences; * is significant"
    )


def _ratio_figure(found: TableDifference) -> go.Figure:
    figure = go.Figure()
    for is_significant, name, colour in (
        (False, "within chance", BLUE),
        (True, "significant", RED),
    ):
        mine = [one for one in found.common if one.significant is is_significant]
        if mine:
            figure.add_trace(_ratios(mine, f"{name} ({len(mine)})", colour))
    figure.add_hline(1, line={"color": GREY, "width": 1})
    figure.add_hline(found.median_ratio, line={"color": ORANGE, "width": 2, "dash": "dash"})
    styled(figure, 440)
    figure.update_xaxes(log_axis((one.a_ms for one in found.common), "in A, ms"))
    ratios = [found.median_ratio, 1.0, *(one.ratio for one in found.common)]
    ends = min(ratios) / _ROOM, max(ratios) * _ROOM
    return figure.update_yaxes(log_axis(ends, "B / A"), range=[math.log10(end) for end in ends])


def _ratios(mine: Sequence[OpDifference], name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[one.a_ms for one in mine],
        y=[one.ratio for one in mine],
        error_y={
            "array": [one.high - one.ratio for one in mine],
            "arrayminus": [one.ratio - one.low for one in mine],
            "thickness": 0.7,
            "width": 0,
            "color": faded(colour, 0.5),
        },
        mode="markers",
        marker={"size": 6, "color": faded(colour, 0.75)},
        name=name,
        hovertext=[
            f"{one.op.key}<br>{format_ms(one.a_ms)} and {format_ms(one.b_ms)}: {one.ratio:.3f}"
            for one in mine
        ],
        hoverinfo="text",
    )


def _settings(a: LatencyTable, b: LatencyTable, found: TableDifference) -> Part:
    rows = [(name, str(x), str(y)) for name, (x, y) in found.settings.items()]
    ours, theirs = a.header_lines(), b.header_lines()
    for name in dict.fromkeys([*ours, *theirs]):
        pair = (ours.get(name, ""), theirs.get(name, ""))
        if pair[0] != pair[1]:
            rows.append((name, *pair))
    if not rows:
        return Words("Settings and circumstances are the same.")
    return Grid(rows, ("", "A", "B"), "What differs", wraps=True)


def runs_page(a: SavedRun, b: SavedRun) -> Page:
    """Two searches side by side."""
    runs = {"A": a, "B": b}
    networks = blocks_figure([drawing(run, name) for name, run in runs.items()])
    parts: list[Part] = [
        Picture("network", "The networks found, block by block.", networks),
        Picture(
            "budget",
            "Red: the budgets; what the latency models predict of the networks, and what was "
            "measured, with 95 % intervals.",
            budgets_figure(runs),
        ),
    ]
    if (curves := curves_figure(runs)) is not None:
        parts.append(Picture("curves", f"A: {a.title}; B: {b.title}.", curves))
    grids: list[Part] = [_side_by_side(a, b), _different_words(a, b)]
    sections = (Section("Networks and searches", parts), Section("Side by side", grids))
    return Page("Two searches", f"A: {a.folder}; B: {b.folder}", [], sections)


def _side_by_side(a: SavedRun, b: SavedRun) -> Grid:
    told = [dict(summary(run)) for run in (a, b)]
    names = dict.fromkeys(name for one in told for name in one)
    return Grid([(name, *(one.get(name, "") for one in told)) for name in names], ("", "A", "B"))


def _different_words(a: SavedRun, b: SavedRun) -> Part:
    """What was asked for differently."""
    words = ("target", "space", "data", "strategy", "seed", "table", "version")
    asked = [
        {**{word: run.result.get(word) for word in words}, **run.result["settings"]}
        for run in (a, b)
    ]
    rows = [
        (name.replace("_", " "), str(asked[0].get(name, "")), str(asked[1].get(name, "")))
        for name in dict.fromkeys([*asked[0], *asked[1]])
        if asked[0].get(name) != asked[1].get(name)
    ]
    if not rows:
        return Words("The same was asked for.")
    return Grid(rows, ("", "A", "B"), "What was asked for differently", wraps=True)
