"""Networks by accuracy and latency: comparisons in the report of a search, and the report of a
Pareto front."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import plotly.graph_objects as go

from latency.errors import SpecError
from latency.operators.network import NetworkSpec
from latency.units import format_count, format_ms
from search.report.files import Baseline, FrontFile, FrontNetwork, SavedNetwork, read_back
from search.report.look import LIMIT_LINE, ORANGE, styled
from search.report.page import Grid, Page, Part, Picture
from search.report.run.blocks import Drawing, blocks_figure, drawn
from search.run_files import FRONT

_MARGIN = 0.15
"""At both ends of the axis, as a share of it: room for names."""


@dataclass(frozen=True)
class Group:
    """Networks that look alike in a figure; `mode` is plotly's."""

    name: str
    networks: Sequence[SavedNetwork]
    colour: str
    mode: str = "markers"


def comparison_parts(
    groups: Sequence[Group], limit_ms: float | None = None, front: Sequence[Drawing] = ()
) -> Iterator[Part]:
    """Figures and a table of networks; `front`: drawings of those on a Pareto front."""
    yield Picture(
        "tradeoff",
        "Accuracy against latency: accuracy on the test split, or else on the validation split; "
        "latency measured, or else predicted. Networks of a Pareto front have the weights of the "
        "supernet, without training of their own.",
        _tradeoff_figure(groups, limit_ms),
    )
    if front:
        yield Picture(
            "front",
            "The networks of the Pareto front, block by block, from fastest to slowest.",
            blocks_figure(front),
        )
    rows = [
        (
            _label(group, one),
            *_formatted(format_ms, one.predicted_ms, one.measured_ms),
            *_formatted("{:.1%}".format, one.valid_accuracy, one.test_accuracy),
            *_formatted(format_count, one.macs, one.params),
        )
        for group in groups
        for one in group.networks
    ]
    yield Grid(rows, ("", "predicted", "measured", "valid", "test", "MACs", "parameters"))


def _formatted(to_text: Callable[[float], str], *values: float | None) -> list[str]:
    return ["" if value is None else to_text(value) for value in values]


def _label(group: Group, network: SavedNetwork) -> str:
    if isinstance(network, Baseline):
        return network.name
    if isinstance(network, FrontNetwork):
        return f"{group.name}, {format_ms(network.budget_ms)}"
    return group.name


def _tradeoff_figure(groups: Sequence[Group], limit_ms: float | None) -> go.Figure:
    figure = go.Figure()
    for group in groups:
        networks = [one for one in group.networks if one.ms and one.accuracy is not None]
        if networks:
            names = [one.name if isinstance(one, Baseline) else group.name for one in networks]
            trace = go.Scatter(
                x=[one.ms for one in networks],
                y=[100 * (one.accuracy or 0.0) for one in networks],
                mode=group.mode,
                text=[*map(escape, names)],
                textposition="top center",
                cliponaxis=False,
                marker={"size": 11, "color": group.colour},
                line={"color": group.colour, "width": 2, "shape": "hv"},
                name=group.name,
                hovertemplate="%{text}: %{x:.4g} ms, %{y:.1f} %<extra></extra>",
            )
            figure.add_trace(trace)
    if limit_ms:
        figure.add_vline(limit_ms, line=LIMIT_LINE)
    styled(figure, 380)
    shown = [*(x for trace in figure.data for x in trace.x), *([limit_ms] if limit_ms else [])]
    margin = _MARGIN * (max(shown) - min(shown) or max(shown))
    figure.update_xaxes(title="latency, ms", range=[min(shown) - margin, max(shown) + margin])
    return figure.update_yaxes(title="accuracy, %")


def front_page(folder: Path) -> Page:
    """The report of the Pareto front in a folder. Raises `SpecError` if a file is not valid or the
    front has no networks."""
    path = folder / FRONT
    content = read_back(path, FrontFile, "a front")
    if not content.networks:
        raise SpecError(
            f"{path}: the front has no networks; search for some: lat-search --pareto 8 ... "
            f"--out {folder} --overwrite"
        )
    networks = sorted(content.networks, key=lambda one: one.ms)
    drawings = [
        drawn(NetworkSpec.load(folder / one.network), format_ms(one.ms)) for one in networks
    ]
    group = Group("Pareto front", networks, ORANGE, "lines+markers")
    facts = [(name, str(value)) for name, value in content if name != "networks"]
    ends = format_ms(networks[0].ms), format_ms(networks[-1].ms)
    return Page(
        f"{content.space} on {content.target}",
        "lat-search, networks from fastest to slowest",
        {"networks": str(len(networks)), "from": ends[0], "to": ends[1]},
        {
            "Networks": [*comparison_parts([group], front=drawings)],
            "How to reproduce it": [Grid(facts)],
        },
    )
