"""The shipped tables are read and written, or fitted: nothing of them changes from version to
version."""

import csv

import pytest

from latency import LatencyTable, OpSpec, fit
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


AMD = "amd-epyc-family-26-model-2-2-cpus-onnxruntime-1.32.0"
INTEL = "intel-r-xeon-r-processor-2.50ghz-family-6-model-85-2-cpus"
BLOCK = OpSpec("mbconv", 20, 20, 24, 40, 5, 1, 4.0, "relu6")
POINTWISE = OpSpec("conv", 28, 28, 96, 160, 1, activation="relu")
STORED = [
    (AMD, BLOCK, (0.04597240620552265, 0.043192359239009596, 0.048930452715081514)),
    (AMD, POINTWISE, (0.08580461511954059, 0.009257715754754212, 0.30314769791436025)),
    (
        f"{INTEL}-ai-edge-litert-2.3.0",
        BLOCK,
        (0.23885507650680612, 0.21294490064311328, 0.26811131576742153),
    ),
    (
        f"{INTEL}-torch-2.13.0-cpu",
        POINTWISE,
        (0.8585304710808335, 0.30454764475218804, 2.6386309529323837),
    ),
    (
        f"{INTEL}-onnxruntime-1.32.0",
        POINTWISE,
        (0.2270092704316653, 0.17781783819409777, 0.28980899433534707),
    ),
]
"""Of tables as of November 2026, ms with its interval; they are stored anew only where a table is
measured anew."""


@pytest.mark.parametrize(("stem", "op", "stored"), STORED)
def test_an_operator_is_predicted_as_ever_by_a_shipped_table(stem, op, stored):
    table = LatencyTable.load(shipped_folder() / f"{stem}.csv")
    found = fit(table, extrapolate=True).predict_op(op)
    assert (found.ms, found.low_ms, found.high_ms) == pytest.approx(stored, rel=1e-4)
