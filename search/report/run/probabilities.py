"""How probable each candidate of each block was, over the steps of a search."""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency.candidates import Block
from latency.operators.spec import OpSpec
from search.report.look import GREY, PALETTE, faded, kernel_colour, styled, title_panels
from search.report.run.saved_run import SavedRun

_COLUMNS = 3
_ROW_PIXELS = 104

Snapshot = tuple[int, Sequence[Sequence[float]]]
"""A step, and the probabilities of each block's candidates then."""


def probabilities_figure(run: SavedRun) -> go.Figure:
    """A panel a block, in which the candidates' probabilities fill the height; where the run told
    of no steps on the way, those at its end as bars."""
    if len(run.snapshots) > 1:
        return _areas(run, run.snapshots)
    return _final(run, run.result["probabilities"])


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
    shown: set[str] = set()
    for block in range(blocks):
        for label, colour, place in _candidates(run, block, len(snapshots[0][1][block])):
            area = go.Scatter(
                x=[step for step, _ in snapshots],
                y=[round(100 * now[block][place], 1) for _, now in snapshots],
                mode="lines",
                line={"width": 0.5, "color": colour},
                fillcolor=colour,
                stackgroup=f"block {block}",
                name=label,
                legendgroup=label,
                showlegend=label not in shown,
                hovertemplate=f"{label}: %{{y:.0f}} %<extra></extra>",
            )
            shown.add(label)
            figure.add_trace(area, block // _COLUMNS + 1, block % _COLUMNS + 1)
    styled(figure, pixels)
    title_panels(figure, [f"block {block}" for block in range(1, blocks + 1)], size=11)
    figure.update_xaxes(showgrid=False, nticks=3)
    return figure.update_yaxes(range=[0, 100], tickvals=[0, 50, 100], showgrid=False)


def _final(run: SavedRun, probabilities: Sequence[Sequence[float]]) -> go.Figure:
    figure = go.Figure()
    shown: set[str] = set()
    for block, row in enumerate(probabilities):
        for label, colour, place in _candidates(run, block, len(row)):
            bar = go.Bar(
                orientation="h",
                x=[100 * row[place]],
                y=[f"block {block + 1}"],
                marker={"color": colour},
                name=label,
                legendgroup=label,
                showlegend=label not in shown,
                hovertemplate=f"{label}: %{{x:.0f}} %<extra></extra>",
            )
            shown.add(label)
            figure.add_trace(bar)
    styled(figure, 90 + 24 * len(probabilities), barmode="stack", bargap=0.2)
    figure.update_xaxes(title="%", range=[0, 100])
    return figure.update_yaxes(autorange="reversed", showgrid=False)


def _candidates(run: SavedRun, block: int, count: int) -> list[tuple[str, str, int]]:
    """(label, colour, index) of the candidates of a block."""
    if run.blocks is None:
        return [(f"candidate {i + 1}", PALETTE[i % len(PALETTE)], i) for i in range(count)]
    return candidate_looks(run.blocks[block])


def candidate_looks(ops: Block) -> list[tuple[str, str, int]]:
    """(label, colour, index) of each candidate: of inverted bottlenecks the kernel as colour and
    the expansion as its strength, those of a kernel side by side; the skipped block last."""
    skipped = [("skip", faded(GREY, 0.25), i) for i, op in enumerate(ops) if op is None]
    told = [(op, i) for i, op in enumerate(ops) if op is not None]
    if any(op.kind != "mbconv" for op, _ in told):
        return [(_words(op), PALETTE[i % len(PALETTE)], i) for op, i in told] + skipped
    most = max((op.expansion for op, _ in told), default=1.0)
    told.sort(key=lambda one: (one[0].kernel, one[0].expansion))
    looks = [
        (
            f"{op.kernel}×{op.kernel} e{op.expansion:g}",
            faded(kernel_colour(op.kernel), 0.2 + 0.75 * op.expansion / most),
            i,
        )
        for op, i in told
    ]
    return looks + skipped


def _words(op: OpSpec) -> str:
    """What tells an operator from others of its block: its key without the sizes."""
    kind, _, _, *tail = op.key.split("-")
    return " ".join([kind, *tail])
