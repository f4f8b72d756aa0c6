"""Networks drawn block by block, as ProxylessNAS draws its specialised ones (figure 6 there)."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.candidates import Block
from latency.graphs.kernels import Network
from latency.operators.spec import OpSpec
from search.report.look import CLEAR, GREY, kernel_colour, styled, title_panels

_AROUND = ("conv", "pool", "linear")
"""Stem and head, which are not drawn."""
_ROW_PIXELS, _BETWEEN = 104, 44
_SKIPPED = "skipped"


@dataclass(frozen=True)
class Drawing:
    """A network's blocks in order, None for a skipped one; `details` stand after its name."""

    name: str
    details: str
    blocks: Sequence[OpSpec | None]


def drawn(network: Network, name: str, details: str = "") -> Drawing:
    """A network of which nothing else is known: all of its blocks, none of them skipped."""
    inner = [op for op in network.ops if op.kind not in _AROUND]
    return Drawing(name, details, inner or network.ops)


def chosen(
    around: Sequence[OpSpec],
    blocks: Sequence[Block],
    choices: Sequence[int],
    name: str,
    details: str = "",
) -> Drawing:
    """A network chosen from the candidates of blocks, with those that it skips; `around`: the
    operators before them."""
    picked = [block[index] for block, index in zip(blocks, choices, strict=True)]
    return Drawing(name, details, [*(op for op in around if op.kind not in _AROUND), *picked])


def blocks_figure(drawings: Sequence[Drawing]) -> go.Figure:
    """One row a network. Bar: a block, its height the expansion ratio, its colour the kernel; the
    output channels are written under the first block that has them. Skipped blocks are hollow."""
    rows = len(drawings)
    pixels = _ROW_PIXELS * rows + 2 * _BETWEEN
    spacing = _BETWEEN / pixels if rows > 1 else 0.0
    figure = make_subplots(rows, 1, shared_xaxes=True, vertical_spacing=spacing)
    shown: set[str] = set()
    for row, drawing in enumerate(drawings, 1):
        for label, bar in _bars(drawing):
            bar.update(name=label, legendgroup=label, showlegend=label not in shown, width=0.88)
            shown.add(label)
            figure.add_trace(bar, row, 1)
        _write_channels(figure, drawing, row)
    longest = max(len(drawing.blocks) for drawing in drawings)
    tallest = max((_height(op) for drawing in drawings for op in drawing.blocks), default=1.0)
    styled(figure, pixels, barmode="overlay", margin={"l": 8, "r": 8, "b": 20})
    title_panels(figure, [f"<b>{escape(one.name)}</b> {one.details}" for one in drawings])
    figure.update_xaxes(visible=False, range=[-0.6, longest - 0.4], fixedrange=True)
    return figure.update_yaxes(visible=False, range=[0, 1.05 * tallest], fixedrange=True)


def _bars(drawing: Drawing) -> list[tuple[str, go.Bar]]:
    """A trace for each kernel size, and one for the skipped blocks."""
    kernels = sorted({op.kernel for op in drawing.blocks if op is not None})
    bars = [(f"kernel {size}×{size}", _kernel_bar(drawing, size)) for size in kernels]
    skipped = [place for place, op in enumerate(drawing.blocks) if op is None]
    if skipped:
        hollow = {"color": CLEAR, "line": {"color": GREY, "width": 1.5}}
        bar = go.Bar(x=skipped, y=[1.0] * len(skipped), marker=hollow, hovertext=_SKIPPED)
        bar.update(hoverinfo="text")
        bars.append((_SKIPPED, bar))
    return bars


def _kernel_bar(drawing: Drawing, kernel: int) -> go.Bar:
    mine = [
        (x, op) for x, op in enumerate(drawing.blocks) if op is not None and op.kernel == kernel
    ]
    return go.Bar(
        x=[x for x, _ in mine],
        y=[_height(op) for _, op in mine],
        marker={"color": kernel_colour(kernel)},
        text=[str(kernel)] * len(mine),
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"size": 9},
        constraintext="none",
        hovertext=[op.key for _, op in mine],
        hoverinfo="text",
    )


def _height(op: OpSpec | None) -> float:
    return 1.0 if op is None else float(op.expansion)


def _write_channels(figure: go.Figure, drawing: Drawing, row: int) -> None:
    """The output channels under the first block that has them."""
    number = "" if row == 1 else str(row)
    channels = None
    for place, op in enumerate(drawing.blocks):
        if op is not None and op.out_channels != channels:
            channels = op.out_channels
            figure.add_annotation(
                text=str(channels),
                x=place,
                y=0,
                xref=f"x{number}",
                yref=f"y{number} domain",
                yanchor="top",
                showarrow=False,
                font={"size": 10},
            )
