"""Networks by accuracy and latency: comparisons in the report of a search, and the reports of one
and of two Pareto fronts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Self

import plotly.graph_objects as go

from latency.errors import SpecError
from latency.operators.network import NetworkSpec
from latency.units import format_count, format_ms
from search.report.files import Baseline, FrontFile, FrontNetwork, SavedNetwork, read_back
from search.report.look import BLUE, LIMIT_LINE, ORANGE, styled
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
    groups: Sequence[Group], front: Sequence[Drawing], limit_ms: float | None = None
) -> Iterator[Part]:
    """Figures and a table of networks; `front`: drawings of those on a Pareto front."""
    caption = (
        "Accuracy against latency: accuracy on the test split, or else on the validation split; "
        "latency measured, or else predicted."
    )
    if any(isinstance(one, FrontNetwork) for group in groups for one in group.networks):
        caption += (
            " Networks of the Pareto front have the weights of the supernet, without training of "
            "their own."
        )
    yield Picture("tradeoff", caption, _tradeoff_figure(groups, limit_ms))
    if front:
        yield Picture(
            "front",
            "The networks of the Pareto front, block by block, from fastest to slowest.",
            blocks_figure(front),
        )
    yield _grid(groups)


def _grid(groups: Sequence[Group]) -> Grid:
    def percent(share: float | None) -> str:
        return "" if share is None else f"{100 * share:.1f} %"

    rows = [
        (
            _label(group, one),
            *("" if ms is None else format_ms(ms) for ms in (one.predicted_ms, one.measured_ms)),
            percent(one.valid_accuracy),
            percent(one.test_accuracy),
            *("" if count is None else format_count(count) for count in (one.macs, one.params)),
        )
        for group in groups
        for one in group.networks
    ]
    return Grid(rows, ("", "predicted", "measured", "valid", "test", "MACs", "parameters"))


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
            figure.add_trace(_networks(group, networks))
    shown = [x for trace in figure.data for x in trace.x]
    if limit_ms:
        figure.add_vline(limit_ms, line=LIMIT_LINE)
        shown.append(limit_ms)
    styled(figure, 380)
    if shown:
        margin = _MARGIN * (max(shown) - min(shown) or max(shown))
        figure.update_xaxes(range=[min(shown) - margin, max(shown) + margin])
    figure.update_xaxes(title="latency, ms")
    return figure.update_yaxes(title="accuracy, %")


def _networks(group: Group, networks: Sequence[SavedNetwork]) -> go.Scatter:
    names = [one.name if isinstance(one, Baseline) else group.name for one in networks]
    return go.Scatter(
        x=[one.ms for one in networks],
        y=[100 * (one.accuracy or 0.0) for one in networks],
        mode=group.mode,
        text=[escape(name) for name in names],
        textposition="top center",
        cliponaxis=False,
        marker={"size": 11, "color": group.colour},
        line={"color": group.colour, "width": 2, "shape": "hv"},
        name=group.name,
        hovertemplate="%{text}: %{x:.4g} ms, %{y:.1f} %<extra></extra>",
    )


@dataclass(frozen=True)
class SavedFront:
    """A Pareto front: `content` of pareto.json, its networks from the fastest on, at least one, and
    their `drawings`."""

    folder: Path
    content: FrontFile
    networks: Sequence[FrontNetwork]
    drawings: Sequence[Drawing]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the front in a folder. Raises `SpecError` if a file is not valid or the front has no
        networks."""
        path = folder / FRONT
        content = read_back(path, FrontFile, "a front")
        networks = sorted(content.networks, key=lambda one: one.ms)
        if not networks:
            raise SpecError(
                f"{path}: the front has no networks; search for some: lat-search --pareto 8 ... "
                f"--out {folder} --overwrite"
            )
        drawings = [
            drawn(NetworkSpec.load(folder / one.network), format_ms(one.ms)) for one in networks
        ]
        return cls(folder, content, networks, drawings)

    @property
    def title(self) -> str:
        return f"{self.content.space} on {self.content.target}"

    @property
    def facts(self) -> dict[str, str]:
        """What is needed to reproduce it."""
        names = ("target", "space", "data", "seed", "version")
        return {name: str(getattr(self.content, name)) for name in names}

    @property
    def summary(self) -> dict[str, str]:
        """The front at a glance."""
        first, last = format_ms(self.networks[0].ms), format_ms(self.networks[-1].ms)
        return {"networks": str(len(self.networks)), "from": first, "to": last}


def front_page(front: SavedFront) -> Page:
    """The report of a front."""
    group = Group("Pareto front", front.networks, ORANGE, "lines+markers")
    return Page(
        front.title,
        "lat-search, networks from fastest to slowest",
        front.summary,
        {
            "Networks": [*comparison_parts([group], front.drawings)],
            "How to reproduce it": [Grid([*front.facts.items()])],
        },
    )


def fronts_page(a: SavedFront, b: SavedFront) -> Page:
    """Two fronts side by side."""
    groups = [
        Group(name, front.networks, colour, "lines+markers")
        for name, front, colour in (("A", a, BLUE), ("B", b, ORANGE))
    ]
    caption = (
        "Accuracy on the validation split, with the weights of the supernet, against latency: "
        "measured, or else predicted."
    )
    pictures = [Picture("tradeoff", caption, _tradeoff_figure(groups, None))] + [
        Picture(
            f"front-{name.lower()}",
            f"The networks of {name}, {front.title}, from fastest to slowest.",
            blocks_figure(front.drawings),
        )
        for name, front in (("A", a), ("B", b))
    ]
    return Page(
        "Two Pareto fronts",
        f"A: {a.folder}; B: {b.folder}",
        {},
        {
            "Networks": pictures,
            "Side by side": [side_by_side(a.summary | a.facts, b.summary | b.facts), _grid(groups)],
        },
    )


def side_by_side(a: Mapping[str, str], b: Mapping[str, str]) -> Grid:
    """Two reports' values by name."""
    names = dict.fromkeys([*a, *b])
    return Grid([(name, a.get(name, ""), b.get(name, "")) for name in names], ("", "A", "B"))
