"""How probable each candidate of each block was during a search."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.candidates import Block
from latency.operators.spec import OpSpec
from search.report.look import (
    GREY,
    PALETTE,
    faded,
    kernel_colour,
    share_legend,
    styled,
    title_panels,
)
from search.report.run.saved_run import SavedRun

_COLUMNS = 3
_ROW_PIXELS = 104

Snapshot = tuple[int, Sequence[Sequence[float]]]
"""A step, and the probabilities of the candidates of each block."""


def probabilities_figure(run: SavedRun) -> go.Figure:
    """Stacked probabilities over the steps, a panel per block; a bar per block if only those at
    the end are known."""
    snapshots = run.curve("probabilities")
    if len(snapshots) > 1:
        return _areas(run, snapshots)
    return _bars(run, run.result.probabilities)


def _areas(run: SavedRun, snapshots: Sequence[Snapshot]) -> go.Figure:
    blocks = len(snapshots[0][1])
    rows = -(-blocks // _COLUMNS)
    pixels = _ROW_PIXELS * rows + 60
    figure = make_subplots(
        rows,
        _COLUMNS,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=26 / pixels if rows > 1 else 0,
    )
    for block in range(blocks):
        for label, colour, index in _candidates(run, block, len(snapshots[0][1][block])):
            area = go.Scatter(
                x=[step for step, _ in snapshots],
                y=[round(100 * rows[block][index], 1) for _, rows in snapshots],
                mode="lines",
                line={"width": 0.5, "color": colour},
                fillcolor=colour,
                stackgroup=f"block {block}",
                name=label,
                hovertemplate=f"{label}: %{{y:.0f}} %<extra></extra>",
            )
            figure.add_trace(area, block // _COLUMNS + 1, block % _COLUMNS + 1)
    share_legend(figure)
    styled(figure, pixels)
    title_panels(figure, [f"block {block}" for block in range(1, blocks + 1)], size=11)
    figure.update_xaxes(showgrid=False, nticks=3)
    return figure.update_yaxes(range=[0, 100], tickvals=[0, 50, 100], showgrid=False)


def _bars(run: SavedRun, probabilities: Sequence[Sequence[float]]) -> go.Figure:
    bars = [
        go.Bar(
            orientation="h",
            x=[100 * row[index]],
            y=[f"block {block + 1}"],
            marker={"color": colour},
            name=label,
            hovertemplate=f"{label}: %{{x:.0f}} %<extra></extra>",
        )
        for block, row in enumerate(probabilities)
        for label, colour, index in _candidates(run, block, len(row))
    ]
    figure = go.Figure(bars)
    share_legend(figure)
    styled(figure, 90 + 24 * len(probabilities), barmode="stack", bargap=0.2)
    figure.update_xaxes(title="%", range=[0, 100])
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def _candidates(run: SavedRun, block: int, count: int) -> list[tuple[str, str, int]]:
    """(label, colour, index) of each candidate of a block."""
    if run.blocks is None:
        return [(f"candidate {i + 1}", PALETTE[i % len(PALETTE)], i) for i in range(count)]
    return candidate_looks(run.blocks[block])


def candidate_looks(block: Block) -> list[tuple[str, str, int]]:
    """(label, colour, index) of each candidate, the skipped block last. Inverted bottlenecks are
    sorted by kernel, which is the colour, and by expansion, which is its opacity."""
    skipped = [("skip", faded(GREY, 0.25), i) for i, op in enumerate(block) if op is None]
    ops = [(op, i) for i, op in enumerate(block) if op is not None]
    if any(op.kind != "mbconv" for op, _ in ops):
        return [(_label(op), PALETTE[i % len(PALETTE)], i) for op, i in ops] + skipped
    most = max((op.expansion for op, _ in ops), default=1.0)
    looks = [
        (
            f"{op.kernel}×{op.kernel} e{op.expansion:g}",
            faded(kernel_colour(op.kernel), 0.2 + 0.75 * op.expansion / most),
            i,
        )
        for op, i in sorted(ops, key=lambda one: (one[0].kernel, one[0].expansion))
    ]
    return looks + skipped


def _label(op: OpSpec) -> str:
    """The key without the sizes, which all candidates of a block share."""
    kind, _, _, *rest = op.key.split("-")
    return " ".join([kind, *rest])
