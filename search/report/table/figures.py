"""Figures of one table: the speed of the device, and how far its rows can be trusted."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from latency.operators.features import kernel_family
from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from search.report.look import BLUE, GREY, PALETTE, RED, line, log_axis, points, styled

_BESIDES = {"activation": "{}", "squeeze_excite": "se{:g}", "batch": "b{}"}
"""Other fields in which inverted bottlenecks may differ, and how labels write them."""
_CERTAIN = 0.1
"""Rows with a wider 95 % interval than this share of their median do not raise the roof."""


def latency_figure(table: LatencyTable) -> go.Figure:
    """Latency against multiply-accumulates, on logarithmic axes."""
    figure = _by_family(
        [op for op in table if op.macs > 0],
        x=lambda op: op.macs / 1e6,
        y=lambda op: table[op].median_ms,
        text=lambda op: str(table[op]),
    )
    styled(figure, 480)
    figure.update_xaxes(log_axis("million multiply-accumulates"))
    return figure.update_yaxes(log_axis("ms"))


def roof_figure(table: LatencyTable) -> go.Figure:
    """Rate against arithmetic intensity under the roof of the fastest rows: attainable =
    min(peak rate, intensity * bandwidth) (Williams, Waterman & Patterson, CACM 2009)."""
    ops = [op for op in table if op.macs > 0]
    peak, bandwidth = roof(table)
    figure = _by_family(
        ops,
        x=lambda op: op.macs / op.bytes,
        y=lambda op: _gmacs(table, op),
        text=lambda op: f"{_gmacs(table, op):.3g} GMAC/s",
    )
    intensities = [op.macs / op.bytes for op in ops]
    intensity = np.geomspace(min(intensities), max(intensities), 80)
    attainable = np.minimum(peak, intensity * bandwidth)
    figure.add_trace(line(intensity, attainable, "roof", line_width=2.5))
    styled(figure, 440)
    figure.update_xaxes(log_axis("MACs per byte"))
    return figure.update_yaxes(log_axis("GMAC/s"))


def roof(table: LatencyTable) -> tuple[float, float]:
    """The highest rate (GMAC/s) and bandwidth (GB/s) of the operators whose 95 % interval is within
    10 %, or of all operators if none is."""
    ops = [op for op in table if op.macs > 0]
    certain = [op for op in ops if table[op].relative_ci95 < _CERTAIN] or ops
    peak = max(_gmacs(table, op) for op in certain)
    return peak, max(op.bytes / table[op].median_ms / 1e6 for op in certain)


def _gmacs(table: LatencyTable, op: OpSpec) -> float:
    return op.macs / table[op].median_ms / 1e6


def _by_family(
    ops: Sequence[OpSpec],
    x: Callable[[OpSpec], float],
    y: Callable[[OpSpec], float],
    text: Callable[[OpSpec], str],
) -> go.Figure:
    """Operators as points of a colour per kernel family; those of rare families share one."""
    families = Counter(map(kernel_family, ops)).most_common(len(PALETTE) - 1)
    groups: dict[str, list[OpSpec]] = {name: [] for name in (*dict(families), "others")}
    for op in ops:
        groups.get(kernel_family(op), groups["others"]).append(op)
    traces = [
        points(
            map(x, group), map(y, group), name, colour, [f"{op.key}<br>{text(op)}" for op in group]
        )
        for colour, (name, group) in zip(PALETTE, groups.items(), strict=False)
        if group
    ]
    return go.Figure(traces)


def stages_figure(table: LatencyTable) -> go.Figure | None:
    """Latency in ms by kernel and expansion (columns) and by stage (rows: input size, channels,
    stride and other differences) of the inverted bottlenecks of a table; None without any."""
    blocks = [op for op in table if op.kind == "mbconv"]
    if not blocks:
        return None
    columns = sorted({(op.expansion, op.kernel) for op in blocks})
    labels = _stage_labels(blocks)
    rows = list(dict.fromkeys(labels))
    ms = np.full((len(rows), len(columns)), np.nan)
    for op, label in zip(blocks, labels, strict=True):
        ms[rows.index(label), columns.index((op.expansion, op.kernel))] = table[op].median_ms
    figure = go.Figure(
        go.Heatmap(
            z=np.log10(ms),
            x=[f"{kernel}×{kernel}<br>e{expansion:g}" for expansion, kernel in columns],
            y=rows,
            text=[["" if math.isnan(value) else f"{value:.3g}" for value in row] for row in ms],
            texttemplate="%{text}",
            textfont={"size": 10},
            colorscale="Viridis",
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate="%{y}, %{x}: %{text} ms<extra></extra>",
        )
    )
    styled(figure, 90 + 26 * len(rows))
    figure.update_xaxes(side="top", showgrid=False)
    return figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 10})


def _stage_labels(blocks: Sequence[OpSpec]) -> list[str]:
    """The stage of each block; blocks of the same label differ in kernel or expansion."""
    besides = [name for name in _BESIDES if len({getattr(op, name) for op in blocks}) > 1]
    labels = []
    for op in blocks:
        size = f"{op.height}²" if op.height == op.width else f"{op.height}×{op.width}"
        stride = f" /{op.stride}" if op.stride > 1 else ""
        rest = [_BESIDES[name].format(getattr(op, name)) for name in besides]
        labels.append(" ".join([f"{size} {op.in_channels}→{op.out_channels}{stride}", *rest]))
    return labels


def spread_figure(table: LatencyTable) -> go.Figure:
    """The width of each row's 95 % interval against its latency, unstable rows in red."""
    figure = go.Figure()
    alone = [op for op in table if not table[op].is_inside]
    groups = (
        ("inside networks", [op for op in table if table[op].is_inside], GREY),
        ("stable", [op for op in alone if not table[op].is_unstable], BLUE),
        ("unstable", [op for op in alone if table[op].is_unstable], RED),
    )
    for name, ops, colour in groups:
        rows = {op: table[op] for op in ops if 0 < table[op].relative_ci95 < math.inf}
        if rows:
            trace = points(
                [row.median_ms for row in rows.values()],
                [100 * row.relative_ci95 for row in rows.values()],
                f"{name} ({len(ops)})",
                colour,
                [f"{op.key}<br>{row}<br>{row.note_text}" for op, row in rows.items()],
            )
            figure.add_trace(trace)
    styled(figure, 380)
    figure.update_xaxes(log_axis("ms"))
    return figure.update_yaxes(log_axis("half the 95 % interval, %"))
