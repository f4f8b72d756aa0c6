"""Figures of one search: its budgets, its curves, its rivals, and where the milliseconds go."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.operators.spec import OpSpec
from latency.prediction import PREDICTED, OpPrediction
from latency.tables.measurement import Measurement
from latency.units import format_ms
from search.report.look import BLUE, GREEN, GREY, ORANGE, PALETTE, RED, faded, styled, title_panels
from search.report.run.saved_run import Bound, SavedRun

Points = list[tuple[int, float]]
"""Steps, and a value at each."""

_EXPECTED, _MULTIPLIER = "expected, % of the budget", "multiplier"
_LOSS, _ENTROPY = "validation loss; faint: training loss", "entropy of the choices, nats"
_OF_BUDGETS = (_EXPECTED, _MULTIPLIER)
_OF_RUNS = {
    _LOSS: (("train_loss", "training", 0.45), ("valid_loss", "validation", 1.0)),
    _ENTROPY: (("entropy", "", 1.0),),
}
"""By panel: field of the history, name and opacity of the curves that a run has one of."""
_LOOKS = {"predicted": BLUE, "measured": GREEN}
_COLOURS_A_RUN = 4
_MOST_POINTS = 500
"""Of a curve: more cannot be told apart on paper."""


def budget_figure(bounds: Sequence[Bound], tried: Sequence[Measurement]) -> go.Figure:
    """Limit, predicted and measured on one axis: in ms for a single latency budget, else each in
    percent of its limit. `tried`: the networks that were derived and measured on the way."""
    single = len(bounds) == 1 and bounds[0].unit == "ms"
    figure = go.Figure()
    if single:
        figure.add_trace(_tried(tried))
    for bound in bounds:
        for what, colour in _LOOKS.items():
            if getattr(bound, what) is not None:
                share = 1.0 if single else 100.0 / bound.limit
                owner = "" if single else bound.name
                figure.add_trace(_interval(bound, what, colour, share, owner))
    limit = bounds[0].limit if single else 100.0
    said = f"budget {bounds[0].told(limit)}" if single else "the limit"
    figure.add_vline(limit, line={"color": RED, "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=limit, y=1, yref="y domain", text=said, showarrow=False, yanchor="bottom"
    )
    rows = len(figure.data) if single else 2 * len(bounds)
    styled(figure, 90 + 34 * rows, margin={"l": 8, "r": 16, "t": 28, "b": 8}, showlegend=False)
    figure.update_xaxes(title="ms" if single else "% of the limit")
    return figure.update_yaxes(showgrid=False, autorange="reversed")


def budgets_figure(runs: Mapping[str, SavedRun]) -> go.Figure:
    """Limit, predicted and measured of searches, each under its name, on one axis: in ms where each
    has a single latency budget, else in percent of the limits."""
    in_ms = all([bound.unit for bound in run.bounds] == ["ms"] for run in runs.values())
    figure, rows = go.Figure(), 0
    for name, run in runs.items():
        for bound in run.bounds:
            owner = name if in_ms else f"{name} {bound.name}"
            share = 1.0 if in_ms else 100.0 / bound.limit
            told = [what for what in _LOOKS if getattr(bound, what) is not None]
            figure.add_trace(_limit(bound, share, owner, told))
            for what in told:
                figure.add_trace(_interval(bound, what, _LOOKS[what], share, owner))
            rows += len(told)
    styled(figure, 70 + 34 * rows, showlegend=False)
    figure.update_xaxes(title="ms" if in_ms else "% of the limit")
    return figure.update_yaxes(showgrid=False, autorange="reversed")


def _limit(bound: Bound, share: float, owner: str, told: Sequence[str]) -> go.Scatter:
    """A line at the limit, through the rows of what is told of the bound."""
    return go.Scatter(
        x=[bound.limit * share] * len(told),
        y=[f"{escape(owner)} {what}" for what in told],
        mode="lines+markers",
        line={"color": RED, "width": 2},
        marker={"symbol": "line-ns", "size": 14, "line": {"color": RED, "width": 2}},
        hovertext=escape(f"{owner}: budget {bound.told(bound.limit)}"),
        hoverinfo="text",
    )


def _interval(bound: Bound, what: str, colour: str, share: float, owner: str) -> go.Scatter:
    value = getattr(bound, what)
    low, high = getattr(bound, f"{what}_ends") or (value, value)
    said = f"{what}: {bound.told(value)}"
    if low < high:
        said += f" (95 %: {bound.told(low)} to {bound.told(high)})"
    return go.Scatter(
        x=[value * share],
        y=[f"{escape(owner)} {what}".strip()],
        error_x={
            "array": [(high - value) * share],
            "arrayminus": [(value - low) * share],
            "thickness": 2,
            "width": 7,
        },
        mode="markers",
        marker={"size": 11, "color": colour},
        name=what,
        hovertext=escape(f"{owner} {said}".strip()),
        hoverinfo="text",
    )


def _tried(tried: Sequence[Measurement]) -> go.Scatter:
    """The networks that were measured with random weights while deriving."""
    medians = [one.median_ms for one in tried]
    return go.Scatter(
        x=medians,
        y=["derived"] * len(medians),
        mode="markers",
        marker={
            "size": 9,
            "color": faded(GREY, 0.7),
            "symbol": "circle-open",
            "line": {"width": 2},
        },
        name="derived",
        hovertext=[f"derived network {number}: {one}" for number, one in enumerate(tried, 1)],
        hoverinfo="text",
    )


def curves_figure(runs: Mapping[str, SavedRun]) -> go.Figure | None:
    """Over the steps of searches, each under its name: what is expected of each budget's quantity,
    in percent of its limit, the multipliers, the losses and the entropy of the choices.
    None where they tell of none."""
    panels = {title: _lines(runs, title) for title in (*_OF_BUDGETS, *_OF_RUNS)}
    told = {title: lines for title, lines in panels.items() if lines}
    if not told:
        return None
    figure = make_subplots(len(told), 1, shared_xaxes=True, vertical_spacing=0.2 / len(told))
    for row, lines in enumerate(told.values(), 1):
        for name, colour, points in lines:
            figure.add_trace(_curve(name, points, colour).update(showlegend=row == 1), row, 1)
    if _EXPECTED in told:
        figure.add_hline(100, line={"color": RED, "width": 2, "dash": "dash"}, row=1, col=1)
    many = len(next(iter(told.values()))) > 1
    styled(figure, 150 * len(told) + 40, hovermode="x unified", showlegend=many)
    title_panels(figure, list(told))
    return figure.update_xaxes(title="step", row=len(told))


def _lines(runs: Mapping[str, SavedRun], title: str) -> list[tuple[str, str, Points]]:
    """(name, colour, points) of a panel's lines: one a budget of each run, or those of `_OF_RUNS`
    of each."""
    lines: list[tuple[str, str, Points]] = []
    for number, (name, run) in enumerate(runs.items()):
        first = _COLOURS_A_RUN * number
        for key, what, opacity in _OF_RUNS.get(title, ()):
            colour = faded(PALETTE[first], opacity)
            lines.append((f"{name} {what}".strip(), colour, run.curve(key)))
        for place, bound in enumerate(run.bounds if title in _OF_BUDGETS else (), first):
            if title == _EXPECTED:
                points = [(step, 100 * x / bound.limit) for step, x in run.expected(bound)]
            else:
                points = run.multiplier(bound)
            colour = PALETTE[place % len(PALETTE)]
            lines.append((f"{name} {bound.name}".strip(), colour, points))
    return [line for line in lines if line[2]]


def _curve(name: str, points: Points, colour: str) -> go.Scatter:
    few = points[:: -(-len(points) // _MOST_POINTS)]
    few = few if few[-1] == points[-1] else [*few, points[-1]]
    return go.Scatter(
        x=[step for step, _ in few],
        y=[value for _, value in few],
        mode="lines",
        line={"width": 2, "color": colour},
        name=escape(name),
        legendgroup=name,
    )


def operators_figure(operators: Sequence[OpPrediction]) -> go.Figure:
    """Milliseconds of each operator of a network, in order of execution, with their intervals."""
    figure = go.Figure()
    names = [f"{place}. {short_name(part.op)}" for place, part in enumerate(operators, 1)]
    pairs = list(zip(names, operators, strict=True))
    total_ms = sum(part.ms for part in operators) or 1.0
    for is_predicted, label, colour in ((False, "measured", BLUE), (True, "predicted", ORANGE)):
        mine = [(name, part) for name, part in pairs if (part.source == PREDICTED) is is_predicted]
        if mine:
            figure.add_trace(_bars(mine, label, colour, total_ms))
    styled(figure, 60 + 20 * len(names), showlegend=True, bargap=0.25)
    figure.update_xaxes(title="ms", rangemode="tozero")
    return figure.update_yaxes(
        categoryorder="array", categoryarray=names, autorange="reversed", tickfont={"size": 10}
    )


def _bars(
    parts: Sequence[tuple[str, OpPrediction]], label: str, colour: str, total_ms: float
) -> go.Bar:
    ops = [part for _, part in parts]
    return go.Bar(
        orientation="h",
        x=[part.ms for part in ops],
        y=[name for name, _ in parts],
        error_x={
            "array": [part.high_ms - part.ms for part in ops],
            "arrayminus": [part.ms - part.low_ms for part in ops],
            "thickness": 1,
            "width": 3,
            "color": GREY,
        },
        marker={"color": colour},
        name=label,
        hovertext=[
            f"{part.op.key}<br>{format_ms(part.ms)}, {100 * part.ms / total_ms:.1f} %, {label}"
            for part in ops
        ],
        hoverinfo="text",
    )


def short_name(op: OpSpec) -> str:
    """An operator in few letters.

    >>> short_name(OpSpec("mbconv", 56, 56, 24, 40, kernel=5, stride=2, expansion=6))
    'mbconv 5×5 e6 40 @28'
    """
    height, _, channels = op.out_shape
    size = f" {op.kernel}×{op.kernel}" if op.kernel > 1 else ""
    expansion = f" e{op.expansion:g}" if op.expansion != 1 else ""
    return f"{op.kind}{size}{expansion} {channels} @{height}"
