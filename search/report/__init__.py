"""Reports: self-contained HTML files of searches and tables. Needs the extra `report` (plotly)."""

from pathlib import Path
from typing import TYPE_CHECKING

from latency.atomic_file import whole_file
from latency.errors import extra

if TYPE_CHECKING:
    from latency.tables.table import LatencyTable
    from search.report.page import Page

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of the search in `folder` into it; the file.

    Raises `UsageError` without plotly, and where the folder holds no finished search.
    """
    path = folder / REPORT
    write_page(run_page(folder), path)
    return path


def run_page(folder: Path) -> "Page":
    """The report of the search in `folder`, or of the front where that is all there is."""
    _require_plotly()
    from search.report.run.front import SavedFront, front_page
    from search.report.run.report import run_page as page_of
    from search.report.run.saved_run import SavedRun
    from search.run_files import is_front

    if is_front(folder):
        return front_page(SavedFront.load(folder))
    return page_of(SavedRun.load(folder))


def table_page(table: "LatencyTable") -> "Page":
    """The report of a table."""
    _require_plotly()
    from search.report.table.report import table_page as page_of

    return page_of(table)


def runs_page(a: Path, b: Path) -> "Page":
    """The searches in two folders side by side, or the fronts where these are all there is."""
    _require_plotly()
    from search.report.comparison_report import runs_page as page_of
    from search.report.run.front import SavedFront, fronts_page
    from search.report.run.saved_run import SavedRun
    from search.run_files import is_front

    if is_front(a) and is_front(b):
        return fronts_page(SavedFront.load(a), SavedFront.load(b))
    return page_of(SavedRun.load(a), SavedRun.load(b))


def tables_page(a: "LatencyTable", b: "LatencyTable") -> "Page":
    """Two tables side by side."""
    _require_plotly()
    from search.report.comparison_report import tables_page as page_of

    return page_of(a, b)


def write_page(page: "Page", path: Path) -> None:
    """Write a page as an HTML file, whole or not at all."""
    from search.report.page import render

    with whole_file(path) as file:
        file.write(render(page))


def _require_plotly() -> None:
    with extra("report"):
        import plotly  # noqa: F401
