"""Reports of searches and tables: self-contained HTML files. Needs the extra `report` (plotly)."""

from pathlib import Path

from latency.atomic_file import whole_file
from latency.errors import extra
from search.run_files import is_front

with extra("report"):
    from search.report import comparison_report
    from search.report.comparison_report import tables_page as tables_page
    from search.report.page import Page, render
    from search.report.run import front, report
    from search.report.run.saved_run import SavedRun
    from search.report.table.report import table_page as table_page

REPORT = "report.html"


def write_report(folder: Path) -> Path:
    """Write the report of the search in `folder` into `folder`; returns its path. Raises
    `UsageError` if there is no finished search."""
    write_page(run_page(folder), folder / REPORT)
    return folder / REPORT


def run_page(folder: Path) -> Page:
    """The report of the search in `folder`, or of its Pareto front if there is no search."""
    return front.front_page(folder) if is_front(folder) else report.run_page(SavedRun.load(folder))


def runs_page(a: Path, b: Path) -> Page:
    """Two searches side by side."""
    return comparison_report.runs_page(SavedRun.load(a), SavedRun.load(b))


def write_page(page: Page, path: Path) -> None:
    """Write a page as an HTML file, atomically."""
    with whole_file(path) as file:
        file.write(render(page))
