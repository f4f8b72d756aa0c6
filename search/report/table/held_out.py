"""How well the regression of a table predicts operators that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go

from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.features import kernel_family
from latency.operators.spec import OpSpec
from latency.prediction import OpPrediction
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.report.look import BLUE, RED, line, log_axis, points, styled, thin_bars
from search.report.page import Grid

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
