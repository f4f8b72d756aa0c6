"""Figures of a search: its budgets, its curves, and the latency of each operator."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.operators.spec import OpSpec
from latency.prediction import MEASURED, PREDICTED
from latency.units import format_ms
from search.report.files import SavedBudget, SavedOperator, Stage
from search.report.look import (
    BLUE,
    GREEN,
    GREY,
    LIMIT_LINE,
    ORANGE,
    PALETTE,
    error_bars,
    faded,
    line,
    points,
    styled,
    title_panels,
)
from search.report.run.saved_run import SavedRun

Curve = list[tuple[int, float]]
"""Steps, and a value at each."""

_EXPECTED = "expected, % of the budget"
_PER_BUDGET = {_EXPECTED: "expected", "multiplier": "multiplier"}
"""By panel: field of the history that has a value per budget."""
_PER_RUN = {
    "validation loss; faint: training loss": (
        ("train_loss", "training", 0.45),
        ("valid_loss", "validation", 1.0),
    ),
    "entropy of the choices, nats": (("entropy", "", 1.0),),
}
"""By panel: field of the history, name and opacity of each curve."""
_STAGES: dict[Stage, str] = {"predicted": BLUE, "measured": GREEN}
_COLOURS_PER_RUN = 4
_MOST_POINTS = 500
"""Of a curve: more cannot be distinguished in print."""


def budget_figure(runs: Mapping[str, SavedRun]) -> go.Figure:
    """Predicted and measured value of each budget of searches by name, in percent of its limit. For
    a single search with the networks that were derived and measured during it."""
    figure = go.Figure()
    for name, run in runs.items():
        if len(runs) == 1:
            figure.add_trace(_tried(run))
        for budget in run.result.budgets:
            for stage in _STAGES:
                if interval := budget.interval(stage):
                    label = f"{name} {budget.name}".strip()
                    figure.add_trace(_interval(budget, stage, interval, label))
    rows = len({y for trace in figure.data for y in trace.y})
    styled(figure, 90 + 40 * rows, margin={"r": 60}, showlegend=False)
    figure.add_vline(100, line=LIMIT_LINE)
    figure.update_xaxes(title="% of the budget")
    return figure.update_yaxes(showgrid=False, autorange="reversed")


def _interval(
    budget: SavedBudget, stage: Stage, interval: tuple[float, float, float], label: str
) -> go.Scatter:
    """A value with its interval, and the amount as text."""
    value, low, high = np.multiply(interval, 100 / budget.limit).tolist()
    amounts = [budget.format(amount) for amount in (*interval, budget.limit)]
    hover = "{}, {}: {} (95 %: {} to {}), budget {}".format(label, stage, *amounts)
    return points(
        [value],
        [escape(f"{label} {stage}")],
        stage,
        _STAGES[stage],
        [escape(hover)],
        size=11,
        opacity=1,
        error_x=error_bars([value], [low], [high], thickness=2, width=7),
        mode="markers+text",
        text=[amounts[0]],
        textposition="top center",
        cliponaxis=False,
    )


def _tried(run: SavedRun) -> go.Scatter:
    """The networks that were derived during the search and measured with random weights."""
    return points(
        [100 * one.median_ms / run.result.budgets[0].limit for one in run.tried],
        ["derived"] * len(run.tried),
        "derived",
        GREY,
        [f"derived network {number}: {one}" for number, one in enumerate(run.tried, 1)],
        size=9,
        opacity=0.7,
        marker_symbol="circle-open",
        marker_line_width=2,
    )


def curves_figure(runs: Mapping[str, SavedRun]) -> go.Figure | None:
    """Over the steps of searches, each with its name: the expected cost of each budget in percent
    of its limit, the multipliers, the losses and the entropy of the choices. None without any."""
    lines_of = {title: _lines(runs, title) for title in (*_PER_BUDGET, *_PER_RUN)}
    panels = {title: lines for title, lines in lines_of.items() if lines}
    if not panels:
        return None
    figure = make_subplots(len(panels), 1, shared_xaxes=True, vertical_spacing=0.2 / len(panels))
    for row, lines in enumerate(panels.values(), 1):
        for name, colour, curve in lines:
            figure.add_trace(_line(name, curve, colour).update(showlegend=row == 1), row, 1)
    if _EXPECTED in panels:
        figure.add_hline(100, line=LIMIT_LINE, row=1, col=1)
    several = len(next(iter(panels.values()))) > 1
    styled(figure, 150 * len(panels) + 40, hovermode="x unified", showlegend=several)
    title_panels(figure, list(panels))
    return figure.update_xaxes(title="step", row=len(panels))


def _lines(runs: Mapping[str, SavedRun], title: str) -> list[tuple[str, str, Curve]]:
    """(name, colour, curve) of each line of a panel."""
    lines: list[tuple[str, str, Curve]] = []
    for number, (name, run) in enumerate(runs.items()):
        first = _COLOURS_PER_RUN * number
        for field, label, opacity in _PER_RUN.get(title, ()):
            colour = faded(PALETTE[first], opacity)
            lines.append((f"{name} {label}".strip(), colour, run.curve(field)))
        for index, budget in enumerate(run.result.budgets if title in _PER_BUDGET else (), first):
            curve = run.curve(_PER_BUDGET[title], budget)
            if title == _EXPECTED:
                curve = [(step, 100 * value / budget.limit) for step, value in curve]
            colour = PALETTE[index % len(PALETTE)]
            lines.append((f"{name} {budget.name}".strip(), colour, curve))
    return [line for line in lines if line[2]]


def _line(name: str, curve: Curve, colour: str) -> go.Scatter:
    shown = np.unique(np.linspace(0, len(curve) - 1, _MOST_POINTS, dtype=int))
    steps, values = zip(*(curve[i] for i in shown), strict=True)
    return line(steps, values, escape(name), colour, legendgroup=name, hoverinfo=None)


def operators_figure(operators: Sequence[SavedOperator]) -> go.Figure:
    """The latency of each operator of a network in order of execution, with its interval."""
    names = [f"{number}. {short_name(one.op)}" for number, one in enumerate(operators, 1)]
    total_ms = sum(one.ms for one in operators) or 1.0
    figure = go.Figure()
    for source, colour in ((MEASURED, BLUE), (PREDICTED, ORANGE)):
        ops = {name: o for name, o in zip(names, operators, strict=True) if o.source == source}
        if ops:
            ms, low, high = zip(*((o.ms, o.low_ms, o.high_ms) for o in ops.values()), strict=True)
            bar = go.Bar(
                orientation="h",
                x=ms,
                y=[*ops],
                error_x=error_bars(ms, low, high, thickness=1, width=3, color=GREY),
                marker={"color": colour},
                name=source,
                hovertext=[
                    f"{o.op.key}<br>{format_ms(o.ms)}, {100 * o.ms / total_ms:.1f} %, {source}"
                    for o in ops.values()
                ],
                hoverinfo="text",
            )
            figure.add_trace(bar)
    styled(figure, 60 + 20 * len(names), showlegend=True, bargap=0.25)
    figure.update_xaxes(title="ms", rangemode="tozero")
    return figure.update_yaxes(
        categoryorder="array", categoryarray=names, autorange="reversed", tickfont={"size": 10}
    )


def short_name(op: OpSpec) -> str:
    """An abbreviated operator.

    >>> short_name(OpSpec("mbconv", 56, 56, 24, 40, kernel=5, stride=2, expansion=6))
    'mbconv 5×5 e6 40 @28'
    """
    height, _, channels = op.out_shape
    size = f" {op.kernel}×{op.kernel}" if op.kernel > 1 else ""
    expansion = f" e{op.expansion:g}" if op.expansion != 1 else ""
    return f"{op.kind}{size}{expansion} {channels} @{height}"
