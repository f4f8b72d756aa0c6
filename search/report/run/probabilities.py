"""How probable each candidate of each block was during a search."""

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


def probabilities_figure(run: SavedRun) -> go.Figure | None:
    """Stacked probabilities over the steps, a panel per block; None for a search with fewer
    than two snapshots of them."""
    snapshots = run.curve("probabilities")
    if len(snapshots) < 2:
        return None
    steps, probabilities = zip(*snapshots, strict=True)
    rows = -(-len(run.result.candidates) // _COLUMNS)
    pixels = _ROW_PIXELS * rows + 60
    figure = make_subplots(
        rows,
        _COLUMNS,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=26 / pixels if rows > 1 else 0,
    )
    for block, candidates in enumerate(run.result.candidates):
        for label, colour, index in candidate_looks(candidates):
            area = go.Scatter(
                x=steps,
                y=[round(100 * rows[block][index], 1) for rows in probabilities],
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
    titles = [f"block {block}" for block in range(1, len(run.result.candidates) + 1)]
    title_panels(figure, titles, size=11)
    figure.update_xaxes(showgrid=False, nticks=3)
    return figure.update_yaxes(range=[0, 100], tickvals=[0, 50, 100], showgrid=False)


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
