"""What a network is held against: baselines, the networks of a front, the largest of the space."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from latency.units import format_count, format_ms
from search.report.look import BLUE, GREEN, GREY, ORANGE, RED, styled
from search.report.page import Grid, Part, Picture
from search.report.run.blocks import Drawing, blocks_figure

_HEADER = ("", "predicted", "measured", "valid", "test", "MACs", "parameters")

_ROOM = 0.15
"""For names at both ends of the axis, as a share of it."""


def rival_parts(result: Mapping[str, Any], front: Sequence[Drawing]) -> Iterator[Part]:
    """Figures and a table of the networks that a result tells of; `front`: those of its Pareto
    front, drawn."""
    caption = (
        "Accuracy against latency: on the test split where it is told, else on the validation "
        "split; measured where it was, else predicted."
    )
    if result.get("pareto"):
        caption += " The front's networks have the supernet's weights, untrained by themselves."
    yield Picture("tradeoff", caption, tradeoff_figure(result))
    if front:
        yield Picture(
            "front",
            "The networks of the front, block by block, from the fastest to the slowest.",
            blocks_figure(front),
        )
    yield Grid([_row(name, one) for name, one in _named(result)], _HEADER)


def rival_rows(fronts: Mapping[str, Sequence[Mapping[str, Any]]]) -> Grid:
    """A table of the networks of fronts, each under its name."""
    rows = [
        _row(f"{name}, {format_ms(one['budget_ms'])}", one)
        for name, networks in fronts.items()
        for one in networks
    ]
    return Grid(rows, _HEADER)


def _named(result: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from ((str(one["name"]), one) for one in result.get("baselines") or ())
    for one in result.get("pareto") or ():
        yield f"front, {format_ms(one['budget_ms'])}", one
    if result.get("largest"):
        yield "largest network", result["largest"]
    if result.get("choices"):
        yield "found", result


def _row(name: str, network: Mapping[str, Any]) -> list[str]:
    def told(key: str, write: Callable[[float], str]) -> str:
        return "" if network.get(key) is None else write(network[key])

    return [
        name,
        *(told(key, format_ms) for key in ("predicted_ms", "measured_ms")),
        *(told(key, lambda x: f"{100 * x:.1f} %") for key in ("valid_accuracy", "test_accuracy")),
        *(told(key, format_count) for key in ("macs", "params")),
    ]


def tradeoff_figure(result: Mapping[str, Any]) -> go.Figure:
    """Accuracy against latency of the networks that a result tells of: the one found, the front,
    and what the search is held against; measured where it was, else predicted."""
    figure = go.Figure()
    groups: list[tuple[str, Sequence[Mapping[str, Any]], str, str]] = [
        ("Pareto front", sorted(result.get("pareto") or (), key=took), ORANGE, "lines+markers"),
        ("baselines", result.get("baselines") or (), GREY, "markers+text"),
        ("largest network", [result["largest"]] if result.get("largest") else (), BLUE, "markers"),
        ("found", [result], GREEN, "markers"),
    ]
    for name, networks, colour, mode in groups:
        told = [one for one in networks if took(one) and _accuracy(one) is not None]
        if told:
            figure.add_trace(_networks(name, told, colour, mode))
    if limit := result.get("budget_ms"):
        figure.add_vline(limit, line={"color": RED, "width": 2, "dash": "dash"})
    styled(figure, 380)
    shown = [*([limit] if limit else []), *(x for trace in figure.data for x in trace.x)]
    if shown:
        room = _ROOM * (max(shown) - min(shown) or max(shown))
        figure.update_xaxes(range=[min(shown) - room, max(shown) + room])
    figure.update_xaxes(title="latency, ms")
    return figure.update_yaxes(title="accuracy, %")


def fronts_figure(fronts: Mapping[str, Sequence[Mapping[str, Any]]]) -> go.Figure:
    """Accuracy against latency of the networks of fronts, each under its name."""
    figure = go.Figure()
    for (name, networks), colour in zip(fronts.items(), (BLUE, ORANGE), strict=True):
        told = [one for one in networks if took(one) and _accuracy(one) is not None]
        if told:
            figure.add_trace(_networks(name, told, colour, "lines+markers"))
    styled(figure, 380)
    figure.update_xaxes(title="latency, ms")
    return figure.update_yaxes(title="accuracy, %")


def _networks(
    name: str, networks: Sequence[Mapping[str, Any]], colour: str, mode: str
) -> go.Scatter:
    labels = [escape(str(one.get("name") or name)) for one in networks]
    return go.Scatter(
        x=[took(one) for one in networks],
        y=[100 * (_accuracy(one) or 0.0) for one in networks],
        mode=mode,
        text=labels,
        textposition="top center",
        cliponaxis=False,
        marker={"size": 11, "color": colour},
        line={"color": colour, "width": 2, "shape": "hv"},
        name=name,
        hovertemplate="%{text}: %{x:.4g} ms, %{y:.1f} %<extra></extra>",
    )


def took(network: Mapping[str, Any]) -> float:
    """Milliseconds that a network of a result takes: measured, or else predicted; 0 where neither
    is told."""
    return float(network.get("measured_ms") or network.get("predicted_ms") or 0.0)


def _accuracy(network: Mapping[str, Any]) -> float | None:
    """On the test split where it is told, else on the validation split."""
    test = network.get("test_accuracy")
    return network.get("valid_accuracy") if test is None else test
