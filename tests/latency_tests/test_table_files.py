"""What stands in a table's file and in other projects' tables, field by field."""

import csv
import re
from dataclasses import replace

import pytest

from latency import (
    CoverageError,
    LatencyTable,
    Measurement,
    OpSpec,
    Setting,
    TableError,
    validate,
)
from latency.exchange.keys import key_of, ops_of
from latency.exchange.tables import export_table, import_table
from latency.graphs.fusion import Fusion
from latency.stats import coverage_factor, student_t
from latency.tables.calibration import Validation
from latency.tables.library import user_folder
from latency.tables.measurement import Origin
from latency.transfer.table import transfer
from search.jobs.few_shot import pool_of

BLOCK = "expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:5-stride:1-idskip:1"
VALUE = {"count": 100, "mean": 2.5, "var": 0.04}
OP = OpSpec("conv", 8, 8, 3, 8, 3)


def saved(tmp_path, row, inside_ms=None):
    inside = {} if inside_ms is None else {OP: inside_ms}
    path = tmp_path / "t.csv"
    LatencyTable(Setting("toy", "toy hardware", runtime="toyruntime 1"), {OP: row}, inside).save(
        path
    )
    return path


@pytest.mark.parametrize("converged", [True, False, None])
def test_all_that_is_known_of_a_row_reads_back(tmp_path, converged):
    row = Measurement(
        *(1.25, 0.01, 50, 1.2, "2026-01-01T00:00:00Z", 4, converged, 4096, 41.5, 1800.0),
        *("unstable", 1.125),
    )
    table = LatencyTable.load(saved(tmp_path, row, 1.1875))
    assert table.rows == {OP: row}
    assert table.in_network_ms == {OP: 1.1875}


def test_latencies_are_written_with_seven_digits_behind_the_point(tmp_path):
    third = 1 / 3
    row = Measurement(third, third / 10, 50, third / 2, traced_ms=third / 4)
    with saved(tmp_path, row, third / 5).open() as file:
        (written,) = csv.DictReader(line for line in file if not line.startswith("#"))
    names = ("latency_ms", "ci95_ms", "min_ms", "traced_ms", "in_network_ms")
    assert [written[name] for name in names] == [
        *("0.3333333", "0.0333333", "0.1666667", "0.0833333", "0.0666667"),
    ]


@pytest.mark.parametrize(("line", "version"), [("# device: x", "unknown"), ("# format: 9", "9")])
def test_another_format_is_refused(tmp_path, line, version):
    path = tmp_path / "t.csv"
    path.write_text(f"{line}\n")
    message = f"{path}:1: format version {version}; expected '# format: 1'"
    with pytest.raises(TableError, match=re.escape(message)):
        LatencyTable.load(path)


def test_an_imported_table_says_where_it_is_from(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(f"{BLOCK}: {VALUE}\n")
    table = import_table(path, "proxylessnas", "phone")
    assert table.circumstances == {
        "imported": "theirs.yaml (proxylessnas)",
        "statistic": "mean of single runs",
    }
    assert (table.setting.hardware, table.source) == ("phone", str(path))


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("proxylessnas", "(it knows batch 1, relu6); export"),
        ("ofa", "(it knows batch 1, relu and h_swish); export"),
    ],
)
@pytest.mark.parametrize(
    ("count", "more"), [(1, ""), (3, ""), (4, " and 1 more"), (9, " and 6 mo")]
)
def test_operators_without_a_key_are_named_up_to_three(tmp_path, format, said, count, more):
    ops = [OpSpec("conv", 8, 8, 3, 8 * (i + 1), 3, activation="gelu") for i in range(count)]
    rows = dict.fromkeys(ops, Measurement(1, 0.1, 9, 1))
    table = LatencyTable(Setting("toy", "toy hardware"), rows, source="toy.csv")
    with pytest.raises(TableError) as caught:
        export_table(table, format, tmp_path / "out.yaml")
    named = ", ".join(op.key for op in ops[:3])
    assert str(caught.value).startswith(f"toy.csv: {format} has no keys for {named}{more}")
    assert said in str(caught.value)


def test_the_problem_of_broken_yaml_is_told_once_and_in_one_line(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text(f"{BLOCK}:\n  count: }}\n")
    with pytest.raises(TableError) as caught:
        import_table(path, "proxylessnas", "phone")
    where, _, problem = str(caught.value).partition(": broken YAML: ")
    assert where == f"{path}:2"
    assert problem
    assert "line" not in problem
    assert "\n" not in problem


OFA = (
    "expanded_conv-input:56x56x24-output:28x28x40-expand:{}-kernel:7-stride:2-idskip:0-se:{}-hs:{}"
)


@pytest.mark.parametrize(
    ("key", "format", "op"),
    [
        (OFA.format(72, 1, 1), "ofa", ("mbconv", 56, 56, 24, 40, 7, 2, 3, "h_swish", 24 / 72)),
        (OFA.format(72, 0, 0), "ofa", ("mbconv", 56, 56, 24, 40, 7, 2, 3, "relu", 0.0)),
        (OFA.format(24, 1, 0), "ofa", ("mbconv", 56, 56, 24, 40, 7, 2, 1, "relu", 8 / 24)),
        (OFA.format(144, 1, 0), "ofa", ("mbconv", 56, 56, 24, 40, 7, 2, 6, "relu", 40 / 144)),
        (
            "Conv-input:224x112x3-output:112x56x16",
            *("ofa", ("conv", 224, 112, 3, 16, 3, 2, 1, "h_swish")),
        ),
        (
            "Conv_1-input:7x14x160-output:7x14x960",
            *("proxylessnas", ("conv", 7, 14, 160, 960, 1, 1, 1, "relu6")),
        ),
        (
            "Conv_2-input:1x1x960-output:1x1x1280",
            "ofa",
            ("conv", 1, 1, 960, 1280, 1, 1, 1, "h_swish"),
        ),
        ("AvgPool2D-input:7x7x960-output:1x1x960", "ofa", ("pool", 7, 7, 960, 960, 7)),
        ("Logits-input:1x1x1280-output:1000", "ofa", ("linear", 1, 1, 1280, 1000)),
    ],
)
def test_a_key_is_an_operator_and_back(key, format, op):
    assert ops_of(key, format) == (OpSpec(*op),)
    assert key_of((OpSpec(*op),), format) == key


def test_a_transferred_row_is_over_as_many_processes_as_its_networks(toy_space):
    def table(cost, name):
        rows = {op: Measurement(cost(op), 0.001, 50, cost(op)) for op in toy_space.operators}
        return LatencyTable(Setting(name, name), rows, source=f"{name}.csv")

    sources = (table(lambda op: 0.01 + op.macs * 1e-7, "a"), table(lambda op: op.bytes * 1e-7, "b"))
    pool = pool_of(toy_space, sources, 60)
    measured = {
        i: Measurement(
            sources[0].predict(pool.networks[i]).ms, 0.001, 10, 0.1, f"2026-0{i + 1}-01", i
        )
        for i in (1, 5, 3, 2)
    }
    found = transfer(pool, measured, Setting("new", "new"), "toy@16")
    assert {(row.sessions, row.runs, row.measured_at) for row in found.rows.values()} == {
        (5, 40, "2026-06-01")
    }
    assert {(row.converged, row.min_ms == row.median_ms) for row in found.rows.values()} == {
        (None, True)
    }


def test_a_table_of_single_runs_is_one_and_of_none_is_not(tmp_path):
    assert LatencyTable.load(saved(tmp_path, Measurement(1.0, 0.0, 1, 1.0)))[OP].runs == 1
    with pytest.raises(TableError, match="runs is 0, which is not within 1 and"):
        saved(tmp_path, Measurement(1.0, 0.0, 0, 1.0))


def test_an_operators_interval_is_its_rows_or_that_of_the_tables_error(tmp_path):
    table = LatencyTable(Setting("toy", "toy hardware"), {OP: Measurement(2.0, 0.1, 50, 1.9)})
    found = table.predict_op(OP)
    assert (found.low_ms, found.ms, found.high_ms) == pytest.approx((1.9, 2.0, 2.1))
    inside = replace(table, in_network_ms={OP: 4.0})
    found = inside.predict_op(OP)
    assert (found.low_ms, found.ms, found.high_ms) == pytest.approx((3.8, 4.0, 4.2))
    validated = replace(table, validations={"toy@8": validate([1.1, 0.9] * 50, [1.0] * 100)})
    share = 0.1 * coverage_factor(100)
    found = validated.predict_op(OP)
    assert (found.low_ms, found.high_ms) == pytest.approx((2 - 2 * share, 2 + 2 * share))


@pytest.mark.parametrize(
    ("networks", "factor"), [(1, 12.706), (2, 4.303), (3, 3.182), (7, 2.365), (10**9, 1.959964)]
)
def test_a_validation_of_few_networks_has_an_interval_by_students_t(networks, factor):
    """Quantiles as published, of as many degrees of freedom as networks; of very many, normal."""
    assert Validation(networks, 0.1, 0.1, 0.1).relative_ci95 == pytest.approx(0.1 * factor)


def test_factors_of_an_interval_are_those_of_students_t():
    """Quantiles as published: Student's t of 8, 10, 30 degrees of freedom."""
    factors = [coverage_factor(count) for count in (8, 10, 30)]
    assert factors == pytest.approx([2.306, 2.228, 2.042], abs=6e-3)
    assert [student_t(freedom) for freedom in (1, 7)] == [12.706, 2.365]
    assert student_t(8) == coverage_factor(8)


@pytest.mark.parametrize(
    ("count", "named"),
    [
        (1, "1 operator(s) are missing from the table: a; "),
        (3, "3 operator(s) are missing from the table: a, b, c; "),
        (5, "5 operator(s) are missing from the table: a, b, c and 2 more; "),
    ],
)
def test_operators_that_are_missing_are_named_up_to_three(count, named):
    error = CoverageError("abcde"[:count], "the table", "measure them")
    assert str(error) == f"{named}measure them"
    assert error.missing == tuple("abcde"[:count])


def test_the_users_tables_are_in_the_platforms_data_folder(monkeypatch, tmp_path):
    assert user_folder() == tmp_path / "user-data"
    monkeypatch.delenv("LAT_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert user_folder() == tmp_path / "data" / "lat-search"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() == tmp_path / ".local" / "share" / "lat-search"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Measurement(2.0, 2.0, 50, 1.8), "2.00 ms ± 100.0 %"),
        (Measurement(0.5, 0.001, 50, 0.4), "500 µs ± 0.2 %"),
    ],
)
def test_a_row_is_printed_with_its_interval_as_a_share(row, text):
    assert str(row) == text


@pytest.mark.parametrize(
    ("ci95_ms", "converged", "origin", "is_unstable"),
    [
        (0.02, None, Origin.ALONE, False),
        (0.021, None, Origin.ALONE, True),
        (0.021, True, Origin.ALONE, True),
        (0.001, False, Origin.ALONE, True),
        (0.001, True, Origin.ALONE, False),
        (0.5, False, Origin.INSIDE_NETWORKS, False),
    ],
)
def test_a_row_is_unstable_that_is_wide_or_did_not_settle(ci95_ms, converged, origin, is_unstable):
    row = Measurement(1.0, ci95_ms, 50, 0.9, converged=converged, origin=origin)
    assert row.is_unstable is is_unstable


def test_the_history_of_a_table_is_lines_in_a_file_and_fields_in_memory(tmp_path):
    table = LatencyTable(
        Setting("toy", "toy hardware", runtime="toyruntime 1"),
        {OP: Measurement(1.0, 0.01, 50, 0.9)},
        validations={"b@16": validate([1.0], [1.01])},
        circumstances={"load": "0.1"},
        measured={"a@16": "drift: none", "kernels": "9 kernels"},
        traced={"a@16": "failed: no profiler"},
        transfers={"b@16": "from x; 3 networks measured"},
        failed={"conv-8x8": "too large"},
        fusion=Fusion(pairs=frozenset({"conv+relu"})),
    )
    table.save(tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    first = lines.index("# load: 0.1")
    assert lines[first : first + 7] == [
        "# load: 0.1",
        "# measured a@16: drift: none",
        "# traced a@16: failed: no profiler",
        "# fusion: pairs=conv+relu block=1",
        "# measured kernels: 9 kernels",
        "# transferred b@16: from x; 3 networks measured",
        "# failed conv-8x8: too large",
    ]
    back = LatencyTable.load(tmp_path / "t.csv")
    assert replace(back, source=table.source, validations=table.validations) == replace(
        table, in_network_ms=back.in_network_ms
    )


def test_an_origin_and_a_note_share_a_column_and_are_told_apart(tmp_path):
    for origin in Origin:
        row = Measurement(1.0, 0.01, 50, 0.9, origin=origin)
        assert LatencyTable.load(saved(tmp_path, row))[OP] == row
        assert Measurement.from_dict(row.as_dict()) == row
    noted = Measurement(1.0, 0.01, 50, 0.9, note="transferred by hand")
    assert LatencyTable.load(saved(tmp_path, noted))[OP] == noted
    assert Measurement.from_dict(noted.as_dict()) == noted
