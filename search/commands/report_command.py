"""`lat-report`: a search or a table as one HTML file, and as pictures."""

import json
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency.errors import UsageError
from latency.tables.table import LatencyTable
from search.commands.options import Json, require_suffix
from search.console import in_one_line, notice, run
from search.run_files import FRONT, RESULT

if TYPE_CHECKING:
    from search.report.page import Page


def report_command(
    what: Annotated[str, typer.Argument(help="A search's folder, or a table: path, stem, card.")],
    other: Annotated[
        str | None, typer.Argument(help="Another search or table to compare it with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file to write.")] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    png: Annotated[
        Path | None, typer.Option(help="Folder to write each figure to, as a picture for papers.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the report of a search or of a table, or compare two of them.

    The report is one HTML file without external resources. That of a search goes into its folder,
    that of a table beside it if it is given by path, and all others into the current folder.

    Examples:

      lat-report runs/demo

      lat-report cpu --out cpu.html

      lat-report before.csv after.csv

      lat-report runs/demo --png figures
    """
    if out is not None:
        require_suffix(out, ".html")
    from search import report

    page = _page(what, other)
    path = out or _default_path(what, other)
    report.write_page(page, path)
    pictures: list[str] = []
    if png is not None:
        from search.report.pictures import write_pictures

        pictures = [str(picture) for picture in write_pictures(page, png)]
    if as_json:
        figures = [picture.name for picture in page.pictures]
        print(json.dumps({"report": str(path), "figures": figures, "pictures": pictures}))
    else:
        print("\n".join([str(path), *pictures]))
    if open_it:
        webbrowser.open(path.resolve().as_uri())


def write_or_notice(folder: Path) -> None:
    """Write the report of a finished search; print a notice if that fails for any reason."""
    try:
        from search import report

        report.write_report(folder)
    except Exception as error:
        notice(f"no report: {in_one_line(error)}; to make it: lat-report {folder}")


def _page(what: str, other: str | None) -> "Page":
    from search import report

    if other is None and _is_run(what):
        return report.run_page(_folder(what))
    if other is None:
        notice(f"{what}: predicting a fifth of its operators from the others")
        return report.table_page(LatencyTable.load(what))
    if _is_run(what) != _is_run(other):
        raise UsageError(f"{what} and {other} are a search and a table, which cannot be compared")
    if _is_run(what):
        return report.runs_page(_folder(what), _folder(other))
    return report.tables_page(LatencyTable.load(what), LatencyTable.load(other))


def _is_run(name: str) -> bool:
    return Path(name).is_dir() or Path(name).name in (RESULT, FRONT)


def _folder(name: str) -> Path:
    path = Path(name)
    return path if path.is_dir() else path.parent


def _default_path(what: str, other: str | None) -> Path:
    if other is not None:
        names = [Path(name).resolve() for name in (what, other)]
        stems = [name.stem if name.is_file() else name.name for name in names]
        return Path(f"{stems[0]}-and-{stems[1]}.html")
    if _is_run(what):
        return _folder(what) / "report.html"
    return Path(what).with_suffix(".html") if Path(what).is_file() else Path(f"{what}.html")


def main() -> None:
    run(report_command, "lat-report")
