"""`write_pictures`: the figures of a page as PNG files."""

from pathlib import Path

from plotly.graph_objects import Figure

from latency.errors import LatError, UsageError, extra
from search.report.page import Page

_WIDTH = 800
_SCALE = 2.5
"""Pixels per CSS pixel: 300 dpi at half the width of a page."""


def write_pictures(page: Page, folder: Path) -> list[Path]:
    """Write each figure of the page as `NAME.png` on white; returns the paths.

    Kaleido draws them with a local Chrome or Chromium, offline. Raises `UsageError` if either is
    missing and `LatError` if the browser fails.
    """
    with extra("report"):
        from kaleido import write_fig_from_object_sync
        from kaleido.errors import BrowserClosedError, BrowserFailedError, ChromeNotFoundError
    folder.mkdir(parents=True, exist_ok=True)
    options = {"format": "png", "width": _WIDTH, "scale": _SCALE}
    figures = {
        folder / f"{picture.name}.png": Figure(picture.figure).update_layout(paper_bgcolor="white")
        for picture in page.pictures
    }
    tasks = [{"fig": figure, "path": path, "opts": options} for path, figure in figures.items()]
    try:
        write_fig_from_object_sync(tasks, cancel_on_error=True, kopts={"mathjax": False})
    except ChromeNotFoundError:
        raise UsageError(
            "pictures need Chrome or Chromium on the PATH, e.g. apt-get install chromium"
        ) from None
    except (BrowserFailedError, BrowserClosedError) as error:
        cause = error.args[0] if error.args else ""
        raise LatError(f"the browser that draws the pictures failed: {cause}") from None
    return [*figures]
