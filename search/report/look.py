"""The look of figures: colours, axes, legends, and the traces that several figures use.

Colours are legible on a light and on a dark page. plotly has no themes, so the style sheet of the
page colours text and grid lines.
"""

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


def thin_bars(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str
) -> dict[str, Any]:
    """Error bars of many points of a colour."""
    return error_bars(values, lows, highs, thickness=0.7, width=0, color=faded(colour, 0.5))


def share_legend(figure: Figure) -> None:
    """Give all traces of a name one legend entry, which switches them together."""
    names: set[str] = set()
    for trace in figure.data:
        trace.update(legendgroup=trace.name, showlegend=trace.name not in names)
        names.add(trace.name)


def log_axis(title: str) -> dict[str, Any]:
    """A logarithmic axis with plain numbers as ticks."""
    return {"type": "log", "title": title, "exponentformat": "none"}


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
