"""A table as one CSV file: `# key: value` lines, a header row, one row an operator.

    # format: 1
    # device: cpu
    # hardware: ...
    # calibration proxyless@224: scale=1.05 per_op_ms=0.02 ...
    # validation proxyless@224: networks=12 mean=0.0074 worst=0.0189 rms=0.0091
    kind,height,width,in_channels,...,latency_ms,ci95_ms,runs,min_ms,in_network_ms,measured_at
    conv,224,224,3,...

`pandas.read_csv(path, comment="#")` reads it too.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from latency.atomic_file import write_whole
from latency.errors import TableError
from latency.files import read_file, read_text
from latency.operators.spec import OpSpec
from latency.tables.calibration import Calibration, Validation
from latency.tables.content import TableContent
from latency.tables.csv_header import FORMAT_VERSION, Header, comment_lines, history_lines
from latency.tables.csv_rows import COLUMNS, read_rows, written_rows
from latency.tables.measurement import Measurement
from latency.tables.setting import Setting
from latency.timestamps import newest, time_of
from latency.units import plain_whole

MOST_BYTES = 64_000_000
"""Of a table's file; its rows have 150 bytes."""


def _one_or_more(text: str) -> int:
    if plain_whole(text) < 1:
        raise ValueError(f"{text} is less than 1")
    return int(text)


_SETTING: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys((f.name for f in fields(Setting)), str),
    **dict.fromkeys(("threads", "batch"), _one_or_more),
}


def read_table(path: Path) -> TableContent:
    """Read a table. `TableError` names file and line of whatever is not as it should be."""
    return _parse(read_text(path, MOST_BYTES, TableError), path)


def write_table(table: TableContent, path: Path) -> None:
    """Write a table whole or not at all; `TableError` where it could not be read again."""
    text = io.StringIO()
    for key, value in _header(table).items():
        text.write(f"# {key}: {' '.join(str(value).split())}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(table))
    try:
        _parse(text.getvalue(), path)
    except TableError as error:
        raise TableError(f"not written, since it could not be read again: {error}") from None
    write_whole(path, text.getvalue())


def table_rows(table: TableContent) -> Iterator[dict[str, object]]:
    """Each operator as a mapping from column to value, sorted by key."""
    return written_rows(table.rows, table.in_network_ms)


def read_header(path: Path) -> dict[str, str]:
    """The `# key: value` lines alone, without reading rows; {} where the file has none."""
    header = {}
    text = read_file(path, MOST_BYTES, TableError).decode("utf-8-sig", errors="replace")
    for _, line in comment_lines(text.splitlines()):
        key, _, value = line[1:].partition(":")
        header[key.strip()] = value.strip()
    return header


def read_date(path: Path) -> datetime | None:
    """When a table's newest row was measured, without reading the rest of the rows; where no row
    has a time, the date of the header; None where that has none either."""
    lines = read_file(path, MOST_BYTES, TableError).decode("utf-8-sig", errors="replace")
    comments = dict(comment_lines(lines.splitlines()))
    body = [line for i, line in enumerate(lines.splitlines(), 1) if i not in comments]
    try:
        stamps = [row.get("measured_at") or "" for row in csv.DictReader(body)]
    except csv.Error:
        stamps = []
    return newest(stamps) or time_of(read_header(path).get("date", ""))


def _parse(text: str, path: Path) -> TableContent:
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise TableError(f"{path}: the table is empty; measure it again with lat-profile")
    comments = dict(comment_lines(lines))
    header = Header.read(path, comments)
    body = ((number, line) for number, line in enumerate(lines, 1) if number not in comments)
    rows: dict[OpSpec, Measurement] = {}
    in_network: dict[OpSpec, float] = {}
    for number, (op, measurement, inside) in read_rows(path, body):
        if op in rows:
            raise TableError(f"{path}:{number}: operator {op.key} stands in the table twice")
        rows[op] = measurement
        if inside is not None:
            in_network[op] = inside
    if not rows:
        raise TableError(f"{path}: the table has no rows; measure it again with lat-profile")
    expected = header.values.pop("rows", "")
    if expected and expected != str(len(rows)):
        raise TableError(
            f"{path}: truncated: the header promises {expected} rows, {len(rows)} are there; "
            "measure it again with lat-profile"
        )
    calibrations = header.pop_per_space("calibration", Calibration)
    validations = header.pop_per_space("validation", Validation)
    history = header.pop_history(validations)
    return TableContent(
        setting=_pop_setting(header),
        rows=rows,
        in_network_ms=in_network,
        calibrations=calibrations,
        validations=validations,
        circumstances=header.values,
        **history,
    )


def _header(table: TableContent) -> dict[str, object]:
    return {
        "format": FORMAT_VERSION,
        **asdict(table.setting),
        **history_lines(table),
        **_per_space("calibration", table.calibrations),
        **_per_space("validation", table.validations),
        "rows": len(table.rows),
    }


def _per_space(name: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"{name} {space}": " ".join(
            f"{key}={number if isinstance(number, int) else format(number, '.6g')}"
            for key, number in asdict(value).items()
        )
        for space, value in sorted(values.items())
    }


def _pop_setting(header: Header) -> Setting:
    missing = [name for name in ("device", "hardware", "runtime") if not header.values.get(name)]
    if missing:
        raise TableError(f"{header.path}:1: the header has no {', '.join(missing)}")
    return Setting(**header.pop_fields(_SETTING))
