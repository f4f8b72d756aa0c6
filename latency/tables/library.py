"""Where tables are kept, and which one a name means."""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from latency.errors import UsageError, unknown_name
from latency.machine import accelerators, hardware
from latency.tables.csv_file import read_date, read_header
from latency.timestamps import LONG_AGO


def user_folder() -> Path:
    """The user's tables: `$LAT_DATA`, or `lat-search` in the platform's data folder."""
    if override := os.environ.get("LAT_DATA"):
        return Path(override)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "lat-search"


def shipped_folder() -> Path:
    """The tables that we measured and ship."""
    return Path(str(files("lut_data")))


def known_tables() -> dict[str, Path]:
    """Stem to path of all tables; the user's stand before shipped ones of the same stem."""
    folders = (shipped_folder(), user_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.csv"))}


def tables_of(device: str, here: str = "") -> Iterator[Path]:
    """Tables measured for the card `device`: the user's first, the newest first, by what their
    rows and headers say of when they were measured (those that say nothing last), not by their
    files' times, which a copy changes.

    A card that means "this machine" finds tables of this machine's hardware only. `here`: what the
    device has named itself, where it was asked.
    """
    ours = {here, hardware(), *accelerators()}
    for path, header in tables_named(device):
        if header.get("transport") != "local" or header.get("hardware") in ours:
            yield path


def tables_named(device: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Paths and headers of the tables measured for the card `device` on any hardware: the user's
    first, the newest first."""
    for folder in (user_folder(), shipped_folder()):
        found = []
        for path in sorted(folder.glob("*.csv")):
            header = read_header(path)
            if header.get("device") == device:
                found.append((read_date(path) or LONG_AGO, path, header))
        for _, path, header in sorted(found, key=lambda one: one[0], reverse=True):
            yield path, header


def find_table(name: str | Path) -> Path:
    """The path that `name` means: a path, a table's stem, or a card's name.

    Raises `UsageError` that lists what is known.
    """
    if isinstance(name, Path) or name.endswith(".csv") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: no such table file")
        return path
    tables = known_tables()
    path_or_none = tables.get(name) or next(tables_of(name), None)
    if path_or_none is None:
        raise unknown_name("table", name, tables)
    return path_or_none
