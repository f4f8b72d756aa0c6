"""How well a table's regression predicts operators that it has not seen."""

from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.features import kernel_family
from latency.operators.spec import OpSpec
from latency.prediction import OpPrediction
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.look import BLUE, GREY, RED, faded, log_axis, styled
from search.report.page import Grid

SHARE = 5
"""One row in so many is left out."""
_FEWEST_ROWS = 20
_BAND = 0.1
"""Of the error band that is drawn around the diagonal."""


@dataclass(frozen=True)
class HeldOut:
    """An operator that was left out: what it costs in a network by the table, and by the
    regression of the rows that stayed."""

    op: OpSpec
    measured_ms: float
    predicted: OpPrediction

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted.ms / self.measured_ms - 1

    @property
    def is_within(self) -> bool:
        """Whether the 95 % interval holds it."""
        return self.predicted.low_ms <= self.measured_ms <= self.predicted.high_ms


def leave_out(table: LatencyTable, seed: int = 0) -> list[HeldOut]:
    """Leave a random fifth of a table's rows out, and predict them by what stays. Empty for tables
    of fewer than 20 rows."""
    if len(table) < _FEWEST_ROWS:
        return []
    ops = sorted(table, key=lambda op: op.key)
    order = np.random.default_rng(seed).permutation(len(ops))
    left_out = [ops[i] for i in order[::SHARE]]
    gone = set(left_out)
    stays = replace(
        table,
        rows={op: row for op, row in table.rows.items() if op not in gone},
        in_network_ms={op: ms for op, ms in table.in_network_ms.items() if op not in gone},
    )
    graph = KernelGraph("left out", tuple(Kernel(op, ()) for op in left_out))
    predicted = fit(stays, extrapolate=True, operators=left_out).predict(graph).per_op
    return [HeldOut(one.op, table.predict_op(one.op).ms, one) for one in predicted]


def held_out_figure(found: list[HeldOut]) -> go.Figure:
    """Predicted against measured, and below it the relative errors with their 95 % intervals."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    ends = [min(one.measured_ms for one in found), max(one.measured_ms for one in found)]
    for share, dash in ((1 - _BAND, "dot"), (1.0, "solid"), (1 + _BAND, "dot")):
        line = go.Scatter(
            x=ends,
            y=[share * end for end in ends],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": dash},
            name=f"± {100 * _BAND:.0f} %",
            showlegend=share > 1,
            hoverinfo="skip",
        )
        figure.add_trace(line, 1, 1)
    for is_within, name, colour in ((True, "within", BLUE), (False, "outside", RED)):
        mine = [one for one in found if one.is_within is is_within]
        if mine:
            _add(figure, mine, f"{name} its 95 % interval", colour)
    worst = float(np.quantile([abs(one.error) for one in found], 0.98))
    reach = 100 * max(_BAND * 1.5, min(1.0, 1.3 * worst))
    styled(figure, 560)
    figure.update_xaxes(log_axis(ends, ""))
    figure.update_xaxes(title="measured, ms", row=2)
    figure.update_yaxes(log_axis(ends, "predicted, ms"), row=1)
    return figure.update_yaxes(title="error, %", range=[-reach, reach], row=2)


def _add(figure: go.Figure, mine: list[HeldOut], name: str, colour: str) -> None:
    measured = [one.measured_ms for one in mine]
    look = {"mode": "markers", "marker": {"size": 6, "color": faded(colour, 0.75)}}
    said = [
        f"{one.op.key}<br>measured {format_ms(one.measured_ms)}<br>predicted "
        f"{format_ms(one.predicted.ms)} ({format_ms(one.predicted.low_ms)} to "
        f"{format_ms(one.predicted.high_ms)})"
        for one in mine
    ]
    shared = {"x": measured, "name": name, "hovertext": said, "hoverinfo": "text", **look}
    figure.add_trace(go.Scatter(y=[one.predicted.ms for one in mine], **shared), 1, 1)
    bars = {
        "array": [
            100 * (one.predicted.high_ms - one.predicted.ms) / one.measured_ms for one in mine
        ],
        "arrayminus": [
            100 * (one.predicted.ms - one.predicted.low_ms) / one.measured_ms for one in mine
        ],
        "thickness": 0.7,
        "width": 0,
        "color": faded(colour, 0.5),
    }
    errors = [100 * one.error for one in mine]
    figure.add_trace(go.Scatter(y=errors, error_y=bars, showlegend=False, **shared), 2, 1)


def held_out_words(found: list[HeldOut]) -> str:
    """What the figure shows, in numbers."""
    errors = np.abs([one.error for one in found])
    within = sum(one.is_within for one in found)
    return (
        f"A random fifth of the operators, {len(found)}, was left out and predicted from the "
        f"rest: median error {100 * float(np.median(errors)):.1f} %, {within} of {len(found)} "
        "within their 95 % intervals."
    )


def held_out_grid(found: list[HeldOut]) -> Grid:
    """Errors by family of operators."""
    families: dict[str, list[HeldOut]] = {}
    for one in found:
        families.setdefault(kernel_family(one.op), []).append(one)
    rows = []
    for name, mine in sorted(families.items()):
        errors = np.abs([one.error for one in mine])
        within = sum(one.is_within for one in mine)
        middle, worst = (f"{100 * float(x):.1f} %" for x in (np.median(errors), errors.max()))
        rows.append((name, str(len(mine)), middle, worst, f"{within} of {len(mine)}"))
    return Grid(rows, ("operators", "left out", "median error", "worst", "within 95 %"))
