"""Where tables are kept, and how a name is resolved."""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from latency.errors import UsageError, unknown_name
from latency.machine import accelerators, hardware
from latency.tables.csv_file import read_summary


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
    """Stem to path of all tables; the user's replace shipped ones of the same stem."""
    folders = (shipped_folder(), user_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.csv"))}


def tables_of(device: str, here: str = "") -> Iterator[Path]:
    """Tables measured for the card `device`, in the order of `tables_named`.

    A card of this machine finds tables of this machine's hardware only. `here`: the hardware that
    the device itself reports, if known.
    """
    ours = {here, hardware(), *accelerators()}
    for path, header in tables_named(device):
        if header.get("transport") != "local" or header.get("hardware") in ours:
            yield path


def tables_named(device: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Paths and headers of the tables measured for the card `device` on any hardware: the user's
    first, then the newest first, by the times in their rows and headers."""
    for folder in (user_folder(), shipped_folder()):
        found = [(path, *read_summary(path)) for path in sorted(folder.glob("*.csv"))]
        for path, header, _ in sorted(found, key=lambda one: one[2], reverse=True):
            if header.get("device") == device:
                yield path, header


def find_table(name: str | Path) -> Path:
    """The path of a table by path, stem, or the name of its card.

    Raises `UsageError` that lists the known tables.
    """
    if isinstance(name, Path) or name.endswith(".csv") or os.sep in name:
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"{path}: no such table file")
        return path
    tables = known_tables()
    if found := tables.get(name) or next(tables_of(name), None):
        return found
    raise unknown_name("table", name, tables)
