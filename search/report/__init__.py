"""Reports of searches and tables: self-contained HTML files. Needs the extra `report` (plotly)."""

from pathlib import Path
from typing import TYPE_CHECKING

from latency.atomic_file import whole_file
from latency.errors import extra
from latency.tables.table import LatencyTable
from search.run_files import is_front

if TYPE_CHECKING:
    from search.report.page import Page

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of the search in `folder` into `folder`; returns its path.

    Raises `UsageError` if plotly is not installed or `folder` has no finished search.
    """
    path = folder / REPORT
    write_page(run_page(folder), path)
    return path


def run_page(folder: Path) -> "Page":
    """The report of the search in `folder`, or of its Pareto front if there is no search."""
    _require_plotly()
    from search.report.run import front, report, saved_run

    if is_front(folder):
        return front.front_page(folder)
    return report.run_page(saved_run.SavedRun.load(folder))


def table_page(table: LatencyTable) -> "Page":
    """The report of a table."""
    _require_plotly()
    from search.report.table import report

    return report.table_page(table)


def runs_page(a: Path, b: Path) -> "Page":
    """Two searches side by side."""
    _require_plotly()
    from search.report import comparison_report
    from search.report.run.saved_run import SavedRun

    return comparison_report.runs_page(SavedRun.load(a), SavedRun.load(b))


def tables_page(a: LatencyTable, b: LatencyTable) -> "Page":
    """Two tables side by side."""
    _require_plotly()
    from search.report import comparison_report

    return comparison_report.tables_page(a, b)


def write_page(page: "Page", path: Path) -> None:
    """Write a page as an HTML file, atomically."""
    from search.report.page import render

    with whole_file(path) as file:
        file.write(render(page))


def _require_plotly() -> None:
    with extra("report"):
        import plotly  # noqa: F401
