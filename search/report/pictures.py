"""`write_pictures`: the figures of a page as files for papers."""

from pathlib import Path

from plotly.graph_objects import Figure

from latency.errors import LatError, UsageError, extra
from search.report.page import Page, Picture

_WIDTH = 800
_SCALE = 2.5
"""Pixels a point: 300 to the inch at half the width of a page."""


def write_pictures(page: Page, folder: Path) -> list[Path]:
    """Write each figure of the page as `NAME.png`, black on white; the files.

    Drawn by Kaleido in a Chrome or Chromium on this machine, without a network. Raises
    `UsageError` that says what to install where either is lacking, `LatError` where the browser
    breaks down.
    """
    with extra("report"):
        from kaleido import write_fig_from_object_sync
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{picture.name}.png" for picture in page.pictures]
    options = {"format": "png", "width": _WIDTH, "scale": _SCALE}
    drawn = [
        {"fig": _on_white(picture), "path": path, "opts": options}
        for picture, path in zip(page.pictures, paths, strict=True)
    ]
    try:
        write_fig_from_object_sync(drawn, cancel_on_error=True, kopts={"mathjax": False})
    except ChromeNotFoundError:
        raise UsageError(
            "--png needs Chrome or Chromium on the PATH, e.g. apt-get install chromium"
        ) from None
    except (BrowserFailedError, BrowserClosedError) as error:
        said = error.args[0] if error.args else ""
        raise LatError(f"the browser that draws the pictures broke down: {said}") from None
    return paths


def _on_white(picture: Picture) -> Figure:
    return Figure(picture.figure).update_layout(paper_bgcolor="white")
