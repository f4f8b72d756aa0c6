"""`lat-report`: a search or a table as one HTML file, and as pictures."""

import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latency.errors import LatError, UsageError
from latency.tables.table import LatencyTable
from search import report
from search.console import notice, run
from search.run_files import FRONT, RESULT

if TYPE_CHECKING:
    from search.report.page import Page


def report_command(
    what: Annotated[str, typer.Argument(help="A search's folder, or a table: path, stem, card.")],
    other: Annotated[
        str | None, typer.Argument(help="Another one of its kind, to compare it with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file to write.")] = None,
    open_it: Annotated[
        bool | None,
        typer.Option("--open/--no-open", help="Open it in a browser; so it is on a desktop."),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Folder to write each figure to, as a picture for papers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Write the report of a search or of a table, or compare two of them.

    One HTML file that needs no network. A search's goes into its folder; that of a table beside
    it, where it is given by path, else into the folder one is in.

    Examples:

      lat-report runs/demo

      lat-report cpu --out cpu.html

      lat-report before.csv after.csv

      lat-report runs/demo --png figures
    """
    if out is not None and out.suffix != ".html":
        raise UsageError(f"--out {out}: a file that ends in .html is expected")
    page = _page(what, other)
    path = out or _default_path(what, other)
    report.write_page(page, path)
    pictures = _pictures(page, png) if png is not None else []
    if as_json:
        names = [picture.name for picture in page.pictures]
        print(
            json.dumps({"report": str(path), "figures": names, "pictures": [*map(str, pictures)]})
        )
    else:
        print(path)
        for picture in pictures:
            print(picture)
    if _is_desktop() and not as_json if open_it is None else open_it:
        webbrowser.open(path.resolve().as_uri())


def write_or_notice(folder: Path) -> None:
    """The report at the end of a search, whose result counts without one, whatever is wrong."""
    try:
        report.write_report(folder)
    except Exception as error:
        why = str(error) if isinstance(error, LatError) else f"{type(error).__name__}: {error}"
        notice(f"no report: {' '.join(why.split())}; to make it: lat-report {folder}")


def _page(what: str, other: str | None) -> "Page":
    if other is None:
        if _is_run(what):
            return report.run_page(_folder(what))
        notice(f"{what}: predicting a fifth of its operators from the others")
        return report.table_page(LatencyTable.load(what))
    if _is_run(what) != _is_run(other):
        raise UsageError(
            f"{what} and {other} are a search and a table; two of one kind can be compared"
        )
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
        return _folder(what) / report.REPORT
    return Path(what).with_suffix(".html") if Path(what).is_file() else Path(f"{what}.html")


def _pictures(page: "Page", folder: Path) -> list[Path]:
    from search.report.pictures import write_pictures

    return write_pictures(page, folder)


def _is_desktop() -> bool:
    """Whether someone sits at this machine who can be shown a browser."""
    shows = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    return sys.stdout.isatty() and bool(shows)


def main() -> None:
    run(report_command, "lat-report")
