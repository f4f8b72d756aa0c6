"""The rows of a table's file: an operator and its measurement as cells, and back."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from latency.errors import SpecError, TableError
from latency.operators.spec import OpSpec
from latency.tables.measurement import BOUNDS, Measurement, Origin
from latency.units import plain_number, plain_whole

Row = tuple[OpSpec, Measurement, float | None]
"""An operator, its measurement alone, and its cost inside a network where a file has it."""

_READERS: dict[Any, Callable[[str], Any]] = {str: str, int: plain_whole, float: plain_number}
_OP = {f.name: _READERS[f.type] for f in fields(OpSpec)}
_LATER = ("groups", "dilation", "tree")
"""Columns of an operator that a table may leave out; shipped ones do."""
_MEASURED = (
    *("latency_ms", "ci95_ms", "runs", "min_ms", "in_network_ms", "measured_at", "sittings"),
    *("converged", "memory_bytes", "temperature_c", "frequency_mhz", "note", "traced_ms"),
)
COLUMNS = (*_OP, *_MEASURED)
_NEEDED = (*(name for name in _OP if name not in _LATER), "latency_ms", "ci95_ms", "runs")
_YES_NO = {True: "yes", False: "no", None: ""}
_WHOLE = ("runs", "sittings", "memory_bytes")


def read_rows(path: Path, body: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Row]]:
    """The rows of numbered lines, the first of which names the columns; `TableError` with file and
    line for rows that are not valid."""
    lines = [(number, line) for number, line in body if line.strip(", ")]
    reader = csv.reader(line for _, line in lines)
    header: list[str] = []
    try:
        for cells in reader:
            number = lines[reader.line_num - 1][0]
            if header:
                yield number, _row(f"{path}:{number}", header, cells)
            else:
                header = _columns(f"{path}:{number}", cells)
    except csv.Error as error:
        number = lines[reader.line_num - 1][0]
        raise TableError(f"{path}:{number}: broken row: {error}") from None
    if not header:
        raise TableError(f"{path}: no header row: {', '.join(_NEEDED)}")


def written_rows(
    rows: Mapping[OpSpec, Measurement], in_network_ms: Mapping[OpSpec, float]
) -> Iterator[dict[str, object]]:
    """Each operator as a mapping from column to value, sorted by key so that files diff well."""
    for op in sorted(rows, key=lambda op: op.key):
        measured = rows[op]
        row = {
            **asdict(op),
            **measured.as_dict(),
            "latency_ms": measured.median_ms,
            "in_network_ms": in_network_ms.get(op, measured.median_ms),
            "measured_at": " ".join(measured.measured_at.split()),
            "sittings": measured.sessions,
            "converged": _YES_NO[measured.converged],
            "note": " ".join(measured.note_text.replace("#", "no.").split()),
        }
        rounded = {
            name: round(value, 7)
            for name, value in row.items()
            if name.endswith("_ms") and value is not None
        }
        yield {name: (row | rounded)[name] for name in COLUMNS}


def _columns(where: str, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if missing := [name for name in _NEEDED if name not in names]:
        raise TableError(f"{where}: the header row has no {', '.join(missing)}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise TableError(f"{where}: the header row has {twice[0]} twice")
    return names


def _row(where: str, names: list[str], cells: list[str]) -> Row:
    while len(cells) > len(names) and not cells[-1]:  # of a spreadsheet
        cells.pop()
    if len(cells) != len(names):
        raise TableError(f"{where}: broken row: {len(cells)} cells for {len(names)} columns")
    row = dict(zip(names, cells, strict=True))
    try:
        op = OpSpec(**{name: read(row[name]) for name, read in _OP.items() if name in row})
        return op, *_measurement(row)
    except (ValueError, SpecError) as error:
        raise TableError(f"{where}: broken row: {error}") from None


def _measurement(row: Mapping[str, str]) -> tuple[Measurement, float | None]:
    numbers = {name: _bounded(name, row[name]) for name in BOUNDS if row.get(name)}
    for name in ("latency_ms", "ci95_ms", "runs"):
        if name not in numbers:
            raise ValueError(f"{name} is empty")
    ms = numbers.pop("latency_ms")
    inside = numbers.pop("in_network_ms", None)
    origin, note = Origin.read(row.get("note") or "")
    others = {
        "min_ms": ms,
        "sessions": numbers.pop("sittings", 1),
        **numbers,
        "measured_at": row.get("measured_at") or "",
        "converged": {"yes": True, "no": False}.get(row.get("converged") or ""),
        "note": note,
        "origin": origin,
    }
    return Measurement(ms, **others), inside  # type: ignore[arg-type]


def _bounded(name: str, text: str) -> float:
    least, most = BOUNDS[name]
    number = plain_whole(text) if name in _WHOLE else plain_number(text)
    is_open = name == "ci95_ms" and number == math.inf  # of less than six samples
    if not (least <= number <= most or is_open):
        raise ValueError(f"{name} is {number:g}, which is not within {least:g} and {most:g}")
    return number
