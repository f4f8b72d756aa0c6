"""Networks drawn block by block, as in figure 6 of ProxylessNAS (Cai, Zhu & Han, ICLR 2019)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import takewhile

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.graphs.kernels import Network
from latency.operators.spec import OpSpec
from search.report.look import CLEAR, GREY, kernel_colour, share_legend, styled, title_panels
from search.report.run.saved_run import SavedRun

_NOT_DRAWN = ("conv", "pool", "linear")
"""Kinds of stem and head."""
_ROW_PIXELS, _GAP_PIXELS = 104, 44


@dataclass(frozen=True)
class Drawing:
    """The blocks of a network in order, None for a skipped one; `details` follow its name."""

    name: str
    details: str
    blocks: Sequence[OpSpec | None]


def drawn(network: Network, name: str, details: str = "") -> Drawing:
    """All blocks of a network, none of them skipped."""
    inner = [op for op in network.ops if op.kind not in _NOT_DRAWN]
    return Drawing(name, details, inner or network.ops)


def chosen(run: SavedRun, choices: Sequence[int], name: str, details: str = "") -> Drawing:
    """A network of a run's space, with its skipped blocks."""
    blocks = run.result.candidates
    candidates = {op for block in blocks for op in block}
    first = takewhile(lambda op: op not in candidates, run.network.parts)
    picked = [block[index] for block, index in zip(blocks, choices, strict=True)]
    return Drawing(name, details, [*(op for op in first if op.kind not in _NOT_DRAWN), *picked])


def blocks_figure(drawings: Sequence[Drawing]) -> go.Figure:
    """One row per network, one bar per block: height is the expansion ratio, colour the kernel.
    Skipped blocks are hollow. Output channels are written where they change."""
    rows = len(drawings)
    pixels = _ROW_PIXELS * rows + 2 * _GAP_PIXELS
    spacing = _GAP_PIXELS / pixels if rows > 1 else 0.0
    figure = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=spacing)
    for row, drawing in enumerate(drawings, 1):
        for bar in _bars(drawing):
            figure.add_trace(bar, row, 1)
        _write_channels(figure, drawing, row)
    share_legend(figure)
    longest = max(len(drawing.blocks) for drawing in drawings)
    tallest = max((_height(op) for drawing in drawings for op in drawing.blocks), default=1.0)
    styled(figure, pixels, barmode="overlay", margin={"l": 8, "r": 8, "b": 20})
    title_panels(figure, [f"<b>{escape(one.name)}</b> {one.details}" for one in drawings])
    figure.update_xaxes(visible=False, range=[-0.6, longest - 0.4], fixedrange=True)
    return figure.update_yaxes(visible=False, range=[0, 1.05 * tallest], fixedrange=True)


def _bars(drawing: Drawing) -> Iterator[go.Bar]:
    """A trace per kernel size, and one for the skipped blocks."""
    for kernel in sorted({op.kernel for op in drawing.blocks if op}):
        ops = {x: op for x, op in enumerate(drawing.blocks) if op and op.kernel == kernel}
        yield go.Bar(
            x=[*ops],
            y=[_height(op) for op in ops.values()],
            marker={"color": kernel_colour(kernel)},
            name=f"kernel {kernel}×{kernel}",
            width=0.88,
            text=[str(kernel)] * len(ops),
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            textfont={"size": 9},
            constraintext="none",
            hovertext=[op.key for op in ops.values()],
            hoverinfo="text",
        )
    skipped = [x for x, op in enumerate(drawing.blocks) if op is None]
    if skipped:
        hollow = {"color": CLEAR, "line": {"color": GREY, "width": 1.5}}
        bar = go.Bar(x=skipped, y=[1.0] * len(skipped), marker=hollow, name="skipped", width=0.88)
        yield bar.update(hovertext="skipped", hoverinfo="text")


def _height(op: OpSpec | None) -> float:
    return 1.0 if op is None else float(op.expansion)


def _write_channels(figure: go.Figure, drawing: Drawing, row: int) -> None:
    channels = None
    for x, op in enumerate(drawing.blocks):
        if op is not None and op.out_channels != channels:
            channels = op.out_channels
            figure.add_annotation(
                text=str(channels),
                x=x,
                y=0,
                yref="y domain",
                row=row,
                col=1,
                yanchor="top",
                showarrow=False,
                font={"size": 10},
            )
