"""How well the regression of a table predicts operators that it was not fitted on."""

from collections.abc import Sequence
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
from search.report.look import BLUE, RED, error_bars, faded, line, log_axis, points, styled
from search.report.page import Grid

_SHARE = 5
"""One row in five is left out."""
_FEWEST_ROWS = 20
_BAND = 0.1
"""Error band around the diagonal."""


@dataclass(frozen=True)
class HeldOut:
    """An operator that was left out: its latency in a network by the table, and by the regression
    of the other rows."""

    op: OpSpec
    measured_ms: float
    predicted: OpPrediction

    @property
    def error(self) -> float:
        """Relative."""
        return self.predicted.ms / self.measured_ms - 1

    @property
    def is_within(self) -> bool:
        """Whether the measured latency is in the 95 % interval of the prediction."""
        return self.predicted.low_ms <= self.measured_ms <= self.predicted.high_ms


def leave_out(table: LatencyTable, seed: int = 0) -> list[HeldOut]:
    """Leave out a random fifth of a table's rows and predict it from the others. Empty for tables
    of fewer than 20 rows."""
    if len(table) < _FEWEST_ROWS:
        return []
    ops = sorted(table, key=lambda op: op.key)
    order = np.random.default_rng(seed).permutation(len(ops))
    left_out = {ops[i]: None for i in order[::_SHARE]}
    rest = replace(
        table,
        rows={op: row for op, row in table.rows.items() if op not in left_out},
        in_network_ms={op: ms for op, ms in table.in_network_ms.items() if op not in left_out},
    )
    graph = KernelGraph("left out", tuple(Kernel(op, ()) for op in left_out))
    predicted = fit(rest, extrapolate=True).predict(graph).per_op
    return [HeldOut(one.op, table.predict_op(one.op).ms, one) for one in predicted]


def held_out_figure(found: Sequence[HeldOut]) -> go.Figure:
    """Predicted against measured, and below it the relative errors with their 95 % intervals."""
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    ends = [min(one.measured_ms for one in found), max(one.measured_ms for one in found)]
    for share, dash in ((1 - _BAND, "dot"), (1.0, "solid"), (1 + _BAND, "dot")):
        bound = line(
            ends,
            [share * end for end in ends],
            f"± {100 * _BAND:.0f} %",
            line_width=1,
            line_dash=dash,
            showlegend=share > 1,
        )
        figure.add_trace(bound, 1, 1)
    for is_within, name, colour in ((True, "within", BLUE), (False, "outside", RED)):
        group = [one for one in found if one.is_within is is_within]
        if group:
            _add(figure, group, f"{name} its 95 % interval", colour)
    worst = float(np.quantile([abs(one.error) for one in found], 0.98))
    limit = 100 * max(_BAND * 1.5, min(1.0, 1.3 * worst))
    styled(figure, 560)
    figure.update_xaxes(log_axis(ends, ""))
    figure.update_xaxes(title="measured, ms", row=2)
    figure.update_yaxes(log_axis(ends, "predicted, ms"), row=1)
    return figure.update_yaxes(title="error, %", range=[-limit, limit], row=2)


def _add(figure: go.Figure, group: Sequence[HeldOut], name: str, colour: str) -> None:
    measured = np.array([one.measured_ms for one in group])
    ms, low, high = np.transpose(
        [(one.predicted.ms, one.predicted.low_ms, one.predicted.high_ms) for one in group]
    )
    hover = [
        f"{one.op.key}<br>measured {format_ms(one.measured_ms)}<br>predicted "
        f"{format_ms(one.predicted.ms)} ({format_ms(one.predicted.low_ms)} to "
        f"{format_ms(one.predicted.high_ms)})"
        for one in group
    ]
    percent = 100 / measured
    bars = error_bars(
        ms * percent,
        low * percent,
        high * percent,
        thickness=0.7,
        width=0,
        color=faded(colour, 0.5),
    )
    figure.add_trace(points(measured, ms, name, colour, hover), 1, 1)
    errors = points(
        measured, ms * percent - 100, name, colour, hover, error_y=bars, showlegend=False
    )
    figure.add_trace(errors, 2, 1)


def held_out_text(found: Sequence[HeldOut]) -> str:
    """The result in numbers."""
    median, _, within = _errors(found)
    return (
        f"A random fifth of the operators, {len(found)}, was left out and predicted from the "
        f"rest: median error {median}, {within} within their 95 % intervals."
    )


def held_out_grid(found: Sequence[HeldOut]) -> Grid:
    """Errors by kernel family."""
    families: dict[str, list[HeldOut]] = {}
    for one in found:
        families.setdefault(kernel_family(one.op), []).append(one)
    rows = [(name, str(len(group)), *_errors(group)) for name, group in sorted(families.items())]
    return Grid(rows, ("operators", "left out", "median error", "worst", "within 95 %"))


def _errors(group: Sequence[HeldOut]) -> tuple[str, str, str]:
    """Median error, worst error, and how many measurements are within their intervals."""
    errors = np.abs([one.error for one in group])
    median, worst = (f"{100 * float(error):.1f} %" for error in (np.median(errors), errors.max()))
    return median, worst, f"{sum(one.is_within for one in group)} of {len(group)}"
