"""Figures of one table: what its rows say about the device, and how far they can be trusted."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from latency.operators.features import LAUNCH, kernel_family
from latency.operators.spec import OpSpec
from latency.predictors.roofline import Roofline
from latency.tables.table import LatencyTable
from search.report.look import GREY, HEAT, PALETTE, faded, log_axis, styled

_ARITHMETIC = ("pointwise", "dense", "depthwise")
"""Roles of layers whose rate is drawn."""
_BESIDES = {"activation": "{}", "squeeze_excite": "se{:g}", "batch": "b{}"}
"""What tells apart inverted bottlenecks of a size, a stride, a kernel and an expansion, as it is
written."""
_LINES = ("solid", "dash", "dot")
_CERTAIN = 0.1
"""Rows of a wider 95 % interval than this share of their median do not raise the roof."""


def latency_figure(table: LatencyTable) -> go.Figure:
    """Latency against multiply-accumulates, both in logarithms, and what the arithmetic of each
    kind of layer alone would take by the roofline fitted to the table."""
    ops = [op for op in table if op.macs > 0]
    figure = go.Figure()
    for place, (family, members) in enumerate(_families(ops)):
        figure.add_trace(
            go.Scatter(
                x=[op.macs / 1e6 for op in members],
                y=[table[op].median_ms for op in members],
                mode="markers",
                marker={"size": 6, "color": faded(PALETTE[place], 0.75)},
                name=family,
                hovertext=[f"{op.key}<br>{table[op]}" for op in members],
                hoverinfo="text",
            )
        )
    macs = np.geomspace(min(op.macs for op in ops), max(op.macs for op in ops), 60) / 1e6
    for dash, (role, launch, cost) in zip(_LINES, rates(table), strict=False):
        figure.add_trace(
            go.Scatter(
                x=macs,
                y=launch + macs * cost,
                mode="lines",
                line={"color": GREY, "width": 2, "dash": dash},
                name=f"{role} alone",
                hoverinfo="skip",
            )
        )
    styled(figure, 480)
    figure.update_xaxes(log_axis(macs, "million multiply-accumulates"))
    return figure.update_yaxes(log_axis((table[op].median_ms for op in ops), "ms"))


def rates(table: LatencyTable) -> list[tuple[str, float, float]]:
    """(role of a layer, ms of its launch, ms a million MACs) by the roofline of a table's rows."""
    ops = list(table)
    line = Roofline.fit(ops, np.array([table[op].median_ms for op in ops]))
    costs = {role: line.costs.get((role, "macs"), 0.0) for role in _ARITHMETIC}
    launch = line.costs.get(LAUNCH, 0.0) / 1e3
    return [(role, launch, cost) for role, cost in costs.items() if cost > 0]


def roof_figure(table: LatencyTable) -> go.Figure:
    """Rate against arithmetic intensity under the roof that the fastest rows show: attainable =
    min(peak rate, intensity * bandwidth) (Williams, Waterman & Patterson, CACM 2009)."""
    ops = [op for op in table if op.macs > 0]
    peak, bandwidth = roof(table)
    figure = go.Figure()
    for place, (family, members) in enumerate(_families(ops)):
        figure.add_trace(
            go.Scatter(
                x=[op.macs / op.bytes for op in members],
                y=[_gmacs(table, op) for op in members],
                mode="markers",
                marker={"size": 6, "color": faded(PALETTE[place], 0.75)},
                name=family,
                hovertext=[f"{op.key}<br>{_gmacs(table, op):.3g} GMAC/s" for op in members],
                hoverinfo="text",
            )
        )
    reach = [op.macs / op.bytes for op in ops]
    intensity = np.geomspace(min(reach), max(reach), 80)
    figure.add_trace(
        go.Scatter(
            x=intensity,
            y=np.minimum(peak, intensity * bandwidth),
            mode="lines",
            line={"color": GREY, "width": 2.5},
            name="roof",
            hoverinfo="skip",
        )
    )
    styled(figure, 440)
    figure.update_xaxes(log_axis(reach, "MACs a byte"))
    return figure.update_yaxes(log_axis((_gmacs(table, op) for op in ops), "GMAC/s"))


def roof(table: LatencyTable) -> tuple[float, float]:
    """The highest rate (GMAC/s) and bandwidth (GB/s) that operators reach whose interval is within
    10 %; that any reach, where all are wider."""
    ops = [op for op in table if op.macs > 0]
    certain = [op for op in ops if table[op].relative_ci95 < _CERTAIN] or ops
    peak = max(_gmacs(table, op) for op in certain)
    return peak, max(op.bytes / table[op].median_ms / 1e6 for op in certain)


def _gmacs(table: LatencyTable, op: OpSpec) -> float:
    return op.macs / table[op].median_ms / 1e6


def _families(ops: Iterable[OpSpec]) -> list[tuple[str, list[OpSpec]]]:
    """The operators of each of the commonest families, and the others together."""
    ops = list(ops)
    most = len(PALETTE) - 1
    common = [name for name, _ in Counter(map(kernel_family, ops)).most_common(most)]
    groups: dict[str, list[OpSpec]] = {name: [] for name in [*common, "others"]}
    for op in ops:
        groups[name if (name := kernel_family(op)) in common else "others"].append(op)
    return [(name, members) for name, members in groups.items() if members]


def stages_figure(table: LatencyTable, ops: Iterable[OpSpec]) -> go.Figure | None:
    """Milliseconds by kernel and expansion (columns) and by stage (rows: input size, channels,
    stride, and of all else that an operator may be what is not the same in all), of the inverted
    bottlenecks among `ops`; None where there are none."""
    blocks = [op for op in ops if op.kind == "mbconv" and op in table]
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
            text=[[_cell(value) for value in row] for row in ms],
            texttemplate="%{text}",
            textfont={"size": 10},
            colorscale=HEAT,
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
    """A stage in words for each block; blocks of the same words differ in kernel or expansion."""
    told = [name for name in _BESIDES if len({getattr(op, name) for op in blocks}) > 1]
    return [_stage(op, told) for op in blocks]


def _stage(op: OpSpec, besides: Sequence[str]) -> str:
    size = f"{op.height}²" if op.height == op.width else f"{op.height}×{op.width}"
    stride = f" /{op.stride}" if op.stride > 1 else ""
    words = [_BESIDES[name].format(getattr(op, name)) for name in besides]
    return " ".join([f"{size} {op.in_channels}→{op.out_channels}{stride}", *words])


def _cell(ms: float) -> str:
    return "" if math.isnan(ms) else f"{ms:.3g}"


def spread_figure(table: LatencyTable) -> go.Figure:
    """How wide each row's 95 % interval is, against its latency; those that did not settle stand
    out."""
    figure = go.Figure()
    alone = [op for op in table if not table[op].is_inside]
    groups = (
        ("inside networks", [op for op in table if table[op].is_inside], GREY),
        ("settled", [op for op in alone if not table[op].is_unstable], PALETTE[0]),
        ("did not settle", [op for op in alone if table[op].is_unstable], PALETTE[3]),
    )
    for name, ops, colour in groups:
        told = [op for op in ops if 0 < table[op].relative_ci95 < math.inf]
        if told:
            figure.add_trace(
                go.Scatter(
                    x=[table[op].median_ms for op in told],
                    y=[100 * table[op].relative_ci95 for op in told],
                    mode="markers",
                    marker={"size": 6, "color": faded(colour, 0.7)},
                    name=f"{name} ({len(ops)})",
                    hovertext=[f"{op.key}<br>{table[op]}<br>{table[op].note_text}" for op in told],
                    hoverinfo="text",
                )
            )
    styled(figure, 380)
    figure.update_xaxes(log_axis((table[op].median_ms for op in table), "ms"))
    wide = (100 * table[op].relative_ci95 for op in table)
    return figure.update_yaxes(log_axis(wide, "half the 95 % interval, %"))
