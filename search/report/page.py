"""`Page`: the content of a report, and `render`, which writes it as one HTML file.

The file is self-contained: it includes plotly.js, compressed, and its content security policy
blocks every request.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs


@dataclass(frozen=True)
class Picture:
    """A figure with a caption. `name`: its element in the page, and the stem of its file."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Grid:
    """A table of text. Without a `header`, the first cell of a row is its label. `wraps`: break
    long words instead of scrolling the table."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""
    wraps: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph, or preformatted lines if `verbatim`."""

    text: str
    verbatim: bool = False


Part = Picture | Grid | Text


@dataclass(frozen=True)
class Page:
    """A report. `summary`: values by label, for its top; `sections`: parts by title, empty
    sections are not shown; `good`: whether `verdict` is good news."""

    title: str
    subtitle: str
    summary: Mapping[str, str]
    sections: Mapping[str, Sequence[Part]]
    verdict: str = ""
    good: bool = True

    @property
    def pictures(self) -> Iterator[Picture]:
        """All pictures, in order."""
        for parts in self.sections.values():
            yield from (part for part in parts if isinstance(part, Picture))


def render(page: Page) -> str:
    """The page as one HTML document."""
    figures = {one.name: json.loads(one.figure.to_json()) for one in page.pictures}
    return Template(_file("page.html")).substitute(
        style_css=_file("style.css"),
        script_js=_file("script.js"),
        title=escape(page.title),
        subtitle=escape(page.subtitle),
        verdict=_verdict(page),
        summary="".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
            for label, value in page.summary.items()
        ),
        sections="".join(
            f"<section><h2>{escape(title)}</h2>{''.join(map(_part, parts))}</section>"
            for title, parts in page.sections.items()
            if parts
        ),
        # "<" is escaped, so that no text ends the script element
        figures=json.dumps(figures, separators=(",", ":")).replace("<", "\\u003c"),
        plotly=_packed_plotly(),
    )


@cache
def _packed_plotly() -> str:
    """plotly.js, compressed; takes a second."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _file(name: str) -> str:
    return files("search.report").joinpath(name).read_text(encoding="utf-8")


def _verdict(page: Page) -> str:
    if not page.verdict:
        return ""
    return f'<p class="verdict {"good" if page.good else "bad"}">{escape(page.verdict)}</p>'


def _part(part: Part) -> str:
    if isinstance(part, Picture):
        return _picture(part)
    if isinstance(part, Grid):
        return _grid(part)
    tag = "pre" if part.verbatim else "p"
    return f"<{tag}>{escape(part.text)}</{tag}>"


def _picture(picture: Picture) -> str:
    name, caption = escape(picture.name), escape(picture.caption)
    height = int(picture.figure.layout.height)
    return (
        f'<figure id="{name}"><div class="chart" data-figure="{name}" role="img" '
        f'aria-label="{caption}" style="height:{height}px"></div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _grid(grid: Grid) -> str:
    kind = "facts" if grid.wraps or not grid.header else "list"
    caption = f'<p class="caption">{escape(grid.caption)}</p>' if grid.caption else ""
    head = f"<thead><tr>{_cells(grid.header, 'th')}</tr></thead>" if grid.header else ""
    label = "td" if grid.header else "th"
    rows = [f"<tr>{_cells(row[:1], label)}{_cells(row[1:], 'td')}</tr>" for row in grid.rows]
    body = f"<tbody>{''.join(rows)}</tbody>"
    return f'{caption}<div class="wide"><table class="{kind}">{head}{body}</table></div>'


def _cells(cells: Sequence[str], tag: str) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
