"""A table as one CSV file: `# key: value` lines, a header row, one row per operator.

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
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from latency.atomic_file import write_whole
from latency.errors import TableError
from latency.files import read_file, read_text
from latency.operators.spec import OpSpec
from latency.tables.content import TableContent
from latency.tables.csv_header import comment_lines, header_lines, read_content, split_line
from latency.tables.csv_rows import COLUMNS, read_rows, written_rows
from latency.tables.measurement import Measurement
from latency.timestamps import time_of

_MAX_BYTES = 64_000_000
"""Of a table's file; its rows have 150 bytes."""


def read_table(path: Path) -> TableContent:
    """Read a table. `TableError` names file and line of whatever is not valid."""
    return _parse(read_text(path, _MAX_BYTES, TableError), path)


def write_table(table: TableContent, path: Path) -> None:
    """Write a table whole or not at all; `TableError` if it could not be read again."""
    text = io.StringIO()
    for key, value in header_lines(table).items():
        text.write(f"# {key}: {' '.join(str(value).split())}\n")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(written_rows(table.rows, table.in_network_ms))
    try:
        _parse(text.getvalue(), path)
    except TableError as error:
        raise TableError(f"not written, since it could not be read again: {error}") from None
    write_whole(path, text.getvalue())


def read_summary(path: Path) -> tuple[dict[str, str], datetime]:
    """The header and the newest time of header and rows, without checking the rows."""
    text = read_file(path, _MAX_BYTES, TableError).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    comments = dict(comment_lines(lines))
    header = dict(map(split_line, comments.values()))
    stamps = [header.get("date", "")]
    with suppress(csv.Error):
        body = (line for number, line in enumerate(lines, 1) if number not in comments)
        stamps += [row.get("measured_at") or "" for row in csv.DictReader(body)]
    return header, max(map(time_of, set(stamps)))


def _parse(text: str, path: Path) -> TableContent:
    lines = text.splitlines()
    comments = dict(comment_lines(lines))
    content, expected = read_content(path, comments)
    body = ((number, line) for number, line in enumerate(lines, 1) if number not in comments)
    rows: dict[OpSpec, Measurement] = {}
    in_network: dict[OpSpec, float] = {}
    for number, (op, measurement, inside) in read_rows(path, body):
        if op in rows:
            raise TableError(f"{path}:{number}: operator {op.key} is in the table twice")
        rows[op] = measurement
        if inside is not None:
            in_network[op] = inside
    if not rows or expected not in ("", str(len(rows))):
        raise TableError(
            f"{path}: truncated: it has {len(rows)} rows, the header states {expected or 'any'}; "
            "measure it again with lat-profile"
        )
    return TableContent(rows=rows, in_network_ms=in_network, **content)
