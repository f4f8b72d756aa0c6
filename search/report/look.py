"""How figures look: colours that are legible on light and on dark paper, axes, legends.

The page's style sheet gives text and grid lines their colours, since plotly knows no themes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from plotly.graph_objects import Figure

BLUE, ORANGE, GREEN, RED = "#3b8fd4", "#e09f1f", "#1f9e77", "#d4552a"
PURPLE, GREY, PINK, TEAL = "#8b6fc9", "#8792a0", "#d06a9c", "#2fa5a5"
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, TEAL, PINK, GREY)
"""Told apart by colour-blind eyes too (after Okabe & Ito, 2008)."""

CLEAR = "rgba(0,0,0,0)"
KERNEL_COLOURS: Mapping[int, str] = {1: GREY, 3: BLUE, 5: ORANGE, 7: RED}
HEAT = "Viridis"

_FONT = {"family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 12}
_MARGIN = {"l": 8, "r": 12, "t": 8, "b": 8}
_LEGEND = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0, "xanchor": "left"}
TITLE_PIXELS = 24
"""Of a panel's title, which stands above it."""
_STEPS = (1, 2, 5)
_MANTISSAS = ((1,), (1, 3), _STEPS, (1, 1.5, 2, 3, 4, 5, 7))
_FEWEST_TICKS = 4
_BEYOND, _LEAST_BEYOND = 0.05, 1.01
"""How far an axis reaches beyond its data: as a share of what it shows, and a factor at least."""
_GRID = {"gridcolor": "#c9d0d6", "zeroline": False, "automargin": True}


def kernel_colour(kernel: int) -> str:
    """The colour that stands for a kernel size."""
    return KERNEL_COLOURS.get(kernel, PURPLE)


def faded(colour: str, opacity: float) -> str:
    """A colour such as "#3b8fd4", less opaque."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def styled(figure: Figure, height: int, **layout: Any) -> Figure:
    """The figure in the report's look, `height` pixels high; it takes what width there is."""
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
    figure.update_layout(**layout)
    return figure


def log_axis(values: Iterable[float], title: str) -> dict[str, Any]:
    """A logarithmic axis, its ticks written in full: powers of ten, or, where the values reach over
    few of them, numbers between."""
    told = [value for value in values if 0 < value < math.inf]
    axis = {"type": "log", "title": title}
    if not told:
        return axis
    ticks = log_ticks(min(told), max(told))
    words = [np.format_float_positional(tick, trim="-") for tick in ticks]
    return {**axis, "tickvals": ticks, "ticktext": words}


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high` and a little beyond, for a logarithmic axis: the coarsest
    series of which four or more are there; equal steps where the ends are too near to each other
    for any."""
    beyond = max(_LEAST_BEYOND, (high / low) ** _BEYOND)
    low, high = low / beyond, high * beyond
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
    """Write the title of each of a figure's panels above it, from its left end on, and the legend
    above the first row of them. Comes last: it asks how high the figure is."""
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
    figure.update_layout(
        margin={"t": TITLE_PIXELS}, legend={"y": 1 + TITLE_PIXELS / figure.layout.height}
    )
