"""`Page`: what a report consists of, and `render`, which makes one HTML file of it.

The file needs nothing besides itself: plotly.js is in it, compressed, and a content security
policy forbids it to load anything.
"""

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs


@dataclass(frozen=True)
class Picture:
    """A figure under `name` (a file's stem, and the place in the page), and what it shows."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Grid:
    """A table of words. Without a `header`, the first word of each row is its label. `wraps`: long
    words are broken rather than the table scrolled."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""
    wraps: bool = False


@dataclass(frozen=True)
class Words:
    """A paragraph, or lines to copy where `verbatim`."""

    text: str
    verbatim: bool = False


Part = Picture | Grid | Words


@dataclass(frozen=True)
class Section:
    """Parts under a title."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A report: `summary` (label, value) stands at its top; `verdict` is good news where `good`."""

    title: str
    subtitle: str
    summary: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    verdict: str = ""
    good: bool = True

    @property
    def pictures(self) -> Iterator[Picture]:
        """All pictures, in order."""
        for section in self.sections:
            yield from (part for part in section.parts if isinstance(part, Picture))


def render(page: Page) -> str:
    """The page as one HTML document."""
    words = {
        "style_css": _text("style.css"),
        "script_js": _text("script.js"),
        "title": escape(page.title),
        "subtitle": escape(page.subtitle),
        "verdict": _verdict(page),
        "summary": "".join(
            f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"
            for label, value in page.summary
        ),
        "sections": "".join(map(_section, page.sections)),
        "figures": _as_script(
            {one.name: json.loads(one.figure.to_json()) for one in page.pictures}
        ),
        "plotly": _packed_plotly(),
    }
    return Template(_text("page.html")).substitute(words)


@cache
def _packed_plotly() -> str:
    """plotly.js, compressed, which takes a second."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _text(name: str) -> str:
    return files("search.report").joinpath(name).read_text(encoding="utf-8")


def _as_script(data: object) -> str:
    """JSON that ends no script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _verdict(page: Page) -> str:
    if not page.verdict:
        return ""
    return f'<p class="verdict {"good" if page.good else "bad"}">{escape(page.verdict)}</p>'


def _section(section: Section) -> str:
    parts = "".join(map(_part, section.parts))
    return f"<section><h2>{escape(section.title)}</h2>{parts}</section>"


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
    head = "".join(f"<th>{escape(word)}</th>" for word in grid.header)
    rows = "".join(_row(row, labelled=not grid.header) for row in grid.rows)
    caption = f'<p class="caption">{escape(grid.caption)}</p>' if grid.caption else ""
    kind = "facts" if grid.wraps or not grid.header else "list"
    heading = f"<thead><tr>{head}</tr></thead>" if head else ""
    body = f"<tbody>{rows}</tbody>"
    return f'{caption}<div class="wide"><table class="{kind}">{heading}{body}</table></div>'


def _row(row: Sequence[str], labelled: bool) -> str:
    tags = ["th" if labelled and place == 0 else "td" for place in range(len(row))]
    cells = [f"<{tag}>{escape(word)}</{tag}>" for tag, word in zip(tags, row, strict=True)]
    return f"<tr>{''.join(cells)}</tr>"
