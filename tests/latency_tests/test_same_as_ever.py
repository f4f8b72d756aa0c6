"""The shipped tables are read and written, or fitted: nothing of them changes from version to
version."""

import csv

import pytest

from latency import LatencyTable
from latency.tables.library import shipped_folder

TABLES = sorted(shipped_folder().glob("*.csv"))
USUAL = {"groups": 1.0, "dilation": 1.0, "sittings": 1.0}
"""What a file of an earlier version means that does not have these columns."""


def _parts(path):
    """Header lines with a value, and each row as a mapping from column to value."""
    lines = path.read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    values = [USUAL | {name: _value(cell) for name, cell in row.items() if cell} for row in rows]
    return [line for line in lines if line.startswith("#") and line.strip()[-1] != ":"], values


def _value(cell):
    """Some versions wrote 1, others 1.0."""
    try:
        return float(cell)
    except ValueError:
        return cell


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_shipped_table_is_written_as_it_was_read(path, tmp_path):
    LatencyTable.load(path).save(tmp_path / "t.csv")
    header, rows = _parts(path)
    written_header, written_rows = _parts(tmp_path / "t.csv")
    assert written_header == header
    assert written_rows == rows
