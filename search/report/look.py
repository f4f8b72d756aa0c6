"""The look of figures: colours, axes, legends, and the traces that several figures use.

Colours are legible on a light and on a dark page. plotly has no themes, so the style sheet of the
page colours text and grid lines.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Figure, Scatter

BLUE, ORANGE, GREEN, RED = "#3b8fd4", "#e09f1f", "#1f9e77", "#d4552a"
PURPLE, GREY, PINK, TEAL = "#8b6fc9", "#8792a0", "#d06a9c", "#2fa5a5"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, TEAL, PINK, GREY)
"""Safe for colour-blind readers (after Okabe & Ito, 2008)."""

CLEAR = "rgba(0,0,0,0)"
KERNEL_COLOURS: Mapping[int, str] = {1: GREY, 3: BLUE, 5: ORANGE, 7: RED}
LIMIT_LINE = {"color": RED, "width": 2, "dash": "dash"}

_FONT = {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 12}
_MARGIN = {"l": 8, "r": 12, "t": 8, "b": 8}
_LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"}
_GRID = {"gridcolor": "#c9d0d6", "zeroline": False, "automargin": True}
_TITLE_PIXELS = 24
"""Height of the title above a panel."""
_STEPS = (1, 2, 5)
_MANTISSAS = ((1,), (1, 3), _STEPS, (1, 1.5, 2, 3, 4, 5, 7))
_FEWEST_TICKS = 4
_MARGIN_SHARE, _LEAST_MARGIN = 0.05, 1.01
"""Margin of a logarithmic axis around its data: a share of its length, and at least a factor."""


def kernel_colour(kernel: int) -> str:
    """The colour of a kernel size."""
    return KERNEL_COLOURS.get(kernel, PURPLE)


def faded(colour: str, opacity: float) -> str:
    """A hexadecimal colour such as "#3b8fd4" with an opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def styled(figure: Figure, height: int, **layout: Any) -> Figure:
    """Give a figure the look of the report and a height in pixels; its width follows the page."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        paper_bgcolor=CLEAR,
        plot_bgcolor=CLEAR,
        font=_FONT,
        margin=_MARGIN,
        legend=_LEGEND,
        colorway=PALETTE,
        hoverlabel={"bgcolor": "#2b3138", "font": _FONT, "align": "left"},
    )
    figure.update_xaxes(**_GRID)
    figure.update_yaxes(**_GRID)
    return figure.update_layout(**layout)


def points(
    x: Iterable[float],
    y: Iterable[float | str],
    name: str,
    colour: str,
    hover: Iterable[str],
    size: float = 6,
    opacity: float = 0.75,
    **trace: Any,
) -> Scatter:
    """Markers, each with its own `hover` text; `trace` are further properties."""
    marker = {"size": size, "color": faded(colour, opacity)}
    trace = {"mode": "markers", "marker": marker, "hoverinfo": "text", **trace}
    return Scatter(x=[*x], y=[*y], name=name, hovertext=[*hover], **trace)


def line(
    x: Iterable[float], y: Iterable[float], name: str, colour: str = GREY, **trace: Any
) -> Scatter:
    """A line without hover text, 2 pixels wide; `trace` are further or other properties."""
    trace = {"mode": "lines", "line_width": 2, "hoverinfo": "skip", **trace}
    return Scatter(x=[*x], y=[*y], name=name, line_color=colour, **trace)


def error_bars(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], **look: Any
) -> dict[str, Any]:
    """Asymmetric error bars of `values` that end at `lows` and `highs`."""
    up, down = np.subtract(highs, values).tolist(), np.subtract(values, lows).tolist()
    return {"array": up, "arrayminus": down, **look}


def share_legend(figure: Figure) -> None:
    """Give all traces of a name one legend entry, which switches them together."""
    names: set[str] = set()
    for trace in figure.data:
        trace.update(legendgroup=trace.name, showlegend=trace.name not in names)
        names.add(trace.name)


def log_axis(values: Iterable[float], title: str) -> dict[str, Any]:
    """A logarithmic axis for `values` with plain numbers as ticks, not only powers of ten."""
    finite = [value for value in values if 0 < value < math.inf]
    axis = {"type": "log", "title": title}
    if not finite:
        return axis
    ticks = log_ticks(min(finite), max(finite))
    labels = [np.format_float_positional(tick, trim="-") for tick in ticks]
    return {**axis, "tickvals": ticks, "ticktext": labels}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` and slightly beyond, for a logarithmic axis: the coarsest
    series of mantissas with at least four of them, or equal steps if the range is too narrow."""
    margin = max(_LEAST_MARGIN, (high / low) ** _MARGIN_SHARE)
    low, high = low / margin, high * margin
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in _MANTISSAS:
        ticks = [float(f"{part}e{power}") for power in decades for part in mantissas]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= _FEWEST_TICKS:
            return inside
    step = 10.0 ** math.floor(math.log10((high - low) / _FEWEST_TICKS))
    step *= max(part for part in _STEPS if (high - low) / (part * step) >= _FEWEST_TICKS)
    return [float(f"{step * i:.12g}") for i in range(math.ceil(low / step), int(high / step) + 1)]


def title_panels(figure: Figure, titles: Sequence[str], size: int = 12) -> None:
    """Write a title above each panel, at its left, and the legend above the first row of panels.
    Call it last: it reads the height of the figure."""
    for number, title in enumerate(titles, 1):
        axis = "" if number == 1 else str(number)
        figure.add_annotation(
            text=title,
            x=0,
            y=1,
            xref=f"x{axis} domain",
            yref=f"y{axis} domain",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": size},
        )
    legend = {"y": 1 + _TITLE_PIXELS / figure.layout.height}
    figure.update_layout(margin={"t": _TITLE_PIXELS}, legend=legend)
