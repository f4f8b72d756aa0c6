"""How well the regression of a table predicts operators that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.spec import OpSpec
from latency.prediction import OpPrediction
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.look import BLUE, RED, line, log_axis, points, styled, thin_bars

_SHARE = 5
"""One row in five is left out."""
_FEWEST_ROWS = 20


@dataclass(frozen=True)
class HeldOut:
    """An operator that was left out: its latency in a network by the table, and by the regression
    of the other rows."""

    op: OpSpec
    measured_ms: float
    predicted: OpPrediction

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
    predicted = fit(rest, extrapolate=True, operators=left_out).predict(graph).per_op
    return [HeldOut(one.op, table.predict_op(one.op).ms, one) for one in predicted]


def held_out_figure(found: Sequence[HeldOut]) -> go.Figure:
    """Predicted against measured, with the 95 % intervals of the predictions."""
    figure = go.Figure()
    ends = [min(one.measured_ms for one in found), max(one.measured_ms for one in found)]
    figure.add_trace(line(ends, ends, "equal"))
    for is_within, name, colour in ((True, "within", BLUE), (False, "outside", RED)):
        group = [one for one in found if one.is_within is is_within]
        if group:
            ms, low, high = np.transpose(
                [(one.predicted.ms, one.predicted.low_ms, one.predicted.high_ms) for one in group]
            )
            trace = points(
                [one.measured_ms for one in group],
                ms,
                f"{name} its 95 % interval",
                colour,
                [
                    f"{one.op.key}<br>measured {format_ms(one.measured_ms)}<br>predicted "
                    f"{format_ms(one.predicted.ms)} ({format_ms(one.predicted.low_ms)} to "
                    f"{format_ms(one.predicted.high_ms)})"
                    for one in group
                ],
                error_y=thin_bars(ms, low, high, colour),
            )
            figure.add_trace(trace)
    styled(figure, 440)
    figure.update_xaxes(log_axis("measured, ms"))
    return figure.update_yaxes(log_axis("predicted, ms"))


def held_out_text(found: Sequence[HeldOut]) -> str:
    """The result in numbers."""
    errors = np.abs([one.predicted.ms / one.measured_ms - 1 for one in found])
    return (
        f"A random fifth of the operators, {len(found)}, was left out and predicted from the rest: "
        f"median error {100 * np.median(errors):.1f} %, worst {100 * errors.max():.1f} %; "
        f"{sum(one.is_within for one in found)} within their 95 % intervals."
    )
