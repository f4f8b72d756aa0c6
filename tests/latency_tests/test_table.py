"""Tables: round trip, prediction, and every broken file named by file and line."""

import math
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from latency import (
    CoverageError,
    LatencyTable,
    Measurement,
    NetworkSpec,
    OpSpec,
    TableError,
    UsageError,
    Validation,
)
from latency.calibration import Calibration
from latency.library import tables_of
from latency.machine import hardware
from latency.whole_file import naming, write_whole


@pytest.fixture
def saved(toy_table, tmp_path):
    path = tmp_path / "toy.csv"
    toy_table.save(path)
    return path


def test_a_table_reads_back_as_it_was_written(toy_table, tmp_path):
    table = replace(
        toy_table,
        in_network_ms={op: 0.9 * row.median_ms for op, row in toy_table.rows.items()},
        calibrations={"toy@16": Calibration(0.9, 0.001)},
        validations={"toy@16": Validation(12, 0.01, 0.02, 0.012)},
        circumstances={"clock": "governor performance"},
    )
    table.save(tmp_path / "t.csv")
    back = LatencyTable.load(tmp_path / "t.csv")
    assert back.setting == table.setting
    assert back.validations == table.validations
    assert back.calibrations == table.calibrations
    assert back.circumstances == table.circumstances
    assert set(back) == set(table)
    for op in table:
        assert back[op].median_ms == pytest.approx(table[op].median_ms, abs=1e-7)
        assert back[op].runs == table[op].runs
        assert back.predict_op(op).ms == pytest.approx(table.predict_op(op).ms, abs=1e-7)


def test_pandas_reads_the_same_file(saved, toy_table):
    frame = pandas.read_csv(saved, comment="#")
    assert len(frame) == len(toy_table)
    assert frame.latency_ms.sum() == pytest.approx(toy_table.to_frame().latency_ms.sum())


def test_a_network_takes_the_sum_of_its_operators(toy_table, toy_space):
    network = toy_space.network(toy_space.largest)
    prediction = toy_table.predict(network)
    assert prediction.ms == pytest.approx(sum(toy_table[op].median_ms for op in network.ops))
    assert [part.op for part in prediction.per_op] == list(network.ops)
    assert {part.source for part in prediction.per_op} == {"measured"}
    assert prediction.low_ms < prediction.ms < prediction.high_ms


def test_the_interval_is_that_of_held_out_networks(toy_table, toy_space):
    network = toy_space.network(toy_space.largest)
    table = replace(toy_table, validations={"toy@16": Validation(12, 0.01, 0.03, 0.02)})
    prediction = table.predict(network)
    assert prediction.high_ms / prediction.ms - 1 == pytest.approx(2.179 * 0.02, abs=2e-4)


def test_a_missing_operator_is_named_and_never_gets_a_number(toy_table):
    stranger = OpSpec("conv", 5, 5, 3, 7, 3)
    network = NetworkSpec.of("n", (stranger,))
    for ask in (lambda: toy_table[stranger], lambda: toy_table.predict(network)):
        with pytest.raises(CoverageError, match=stranger.key) as caught:
            ask()
        assert caught.value.missing == (stranger.key,)
    assert toy_table.missing([stranger, *toy_table]) == (stranger,)


def test_merging_keeps_both_and_the_newer_row_wins(toy_table):
    first, *_ = toy_table
    newer = replace(toy_table, rows={first: Measurement(9, 0.1, 50, 8)}, in_network_ms={first: 8.5})
    merged = toy_table.merge(newer)
    assert len(merged) == len(toy_table)
    assert merged[first].median_ms == 9
    assert merged.predict_op(first).ms == 8.5


def test_a_failure_is_forgotten_once_the_operator_was_measured(toy_table):
    first, second, *_ = toy_table
    failures = {f"failed {first.key}": "too large", f"failed {second.key}": "too large"}
    rows = {op: row for op, row in toy_table.rows.items() if op not in (first, second)}
    before = replace(toy_table, rows=rows, circumstances=failures)
    now = replace(toy_table, rows={first: toy_table[first]})
    assert before.merge(now).circumstances == {f"failed {second.key}": "too large"}


def test_tables_of_two_settings_are_never_mixed(toy_table):
    other = replace(toy_table, setting=replace(toy_table.setting, runtime="toyruntime 2.0"))
    with pytest.raises(TableError, match=r"runtime 'toyruntime 1\.0' and 'toyruntime 2\.0'"):
        toy_table.merge(other)


def _edit(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def test_an_empty_file_is_refused(saved):
    saved.write_text("")
    with pytest.raises(TableError, match=r"toy\.csv: the table is empty"):
        LatencyTable.load(saved)


def test_an_unknown_format_version_is_refused(saved):
    _edit(saved, "# format: 1", "# format: 7")
    with pytest.raises(TableError, match=r"toy\.csv:1: format version 7"):
        LatencyTable.load(saved)


def test_a_truncated_file_is_refused(saved):
    lines = saved.read_text().splitlines(keepends=True)
    saved.write_text("".join(lines[:-3]))
    with pytest.raises(TableError, match="truncated: the header promises"):
        LatencyTable.load(saved)
    saved.write_text("".join(lines)[:-40])
    with pytest.raises(TableError, match=rf"toy\.csv:{len(lines)}: broken row"):
        LatencyTable.load(saved)


@pytest.mark.parametrize("latency", ["nan", "0", "-1.5", "inf", "quick"])
def test_a_latency_that_is_none_is_refused_with_its_line(saved, latency):
    lines = saved.read_text().splitlines()
    columns = next(line for line in lines if line.startswith("kind")).split(",")
    cells = lines[-1].split(",")
    cells[columns.index("latency_ms")] = latency
    saved.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    with pytest.raises(TableError, match=rf"toy\.csv:{len(lines)}: .*(latency_ms is|broken row)"):
        LatencyTable.load(saved)


def _with_column(path, column, value):
    """The file with another value in a column of its last row; the number of that row."""
    lines = path.read_text().splitlines()
    cells = lines[-1].split(",")
    cells[next(line for line in lines if line[0] != "#").split(",").index(column)] = value
    path.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    return len(lines)


def test_traced_operators_read_back_and_the_others_stay_empty(toy_table, tmp_path):
    first, *others = toy_table
    rows = {**toy_table.rows, first: replace(toy_table[first], traced_ms=0.123456789)}
    replace(toy_table, rows=rows).save(tmp_path / "t.csv")
    back = LatencyTable.load(tmp_path / "t.csv")
    assert back[first].traced_ms == 0.1234568
    assert {back[op].traced_ms for op in others} == {None}
    assert back.to_frame().traced_ms.notna().sum() == 1


@pytest.mark.parametrize("traced", ["nan", "0", "-1.5", "inf", "quick"])
def test_a_traced_latency_that_is_none_is_refused_with_its_line(saved, traced):
    number = _with_column(saved, "traced_ms", traced)
    with pytest.raises(TableError, match=rf"toy\.csv:{number}: .*(traced_ms is|broken row)"):
        LatencyTable.load(saved)


def test_a_table_from_before_operators_were_traced_still_reads(saved, toy_table):
    lines = saved.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line[0] != "#")
    assert lines[at].endswith(",traced_ms")
    old = [*lines[:at], *(line.rpartition(",")[0] for line in lines[at:])]
    saved.write_text("\n".join(old) + "\n")
    assert {row.traced_ms for row in LatencyTable.load(saved).rows.values()} == {None}


def test_a_duplicate_operator_is_refused_with_its_line(saved):
    lines = saved.read_text().splitlines()
    saved.write_text("\n".join([*lines, lines[-1]]) + "\n")
    with pytest.raises(
        TableError, match=rf"toy\.csv:{len(lines) + 1}: .* stands in the table twice"
    ):
        LatencyTable.load(saved)


def test_a_missing_column_is_refused(saved):
    _edit(saved, ",ci95_ms", ",ci_ms")
    with pytest.raises(TableError, match="the header row lacks ci95_ms"):
        LatencyTable.load(saved)


def test_a_cell_that_is_no_cell_is_refused_with_its_line(saved):
    number = _with_column(saved, "note", "x" * 200_000)
    with pytest.raises(TableError, match=rf"toy\.csv:{number}: broken row: field larger"):
        LatencyTable.load(saved)


def test_a_quote_that_is_never_closed_is_refused_with_a_line(saved):
    lines = saved.read_text().splitlines()
    saved.write_text("\n".join([*lines[:-3], '"' + lines[-3], *lines[-2:]]) + "\n")
    with pytest.raises(TableError, match=rf"toy\.csv:{len(lines)}: broken row"):
        LatencyTable.load(saved)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("validation toy@16: networks=0 mean=0.1 worst=0.1 rms=0.1", "networks is 0"),
        ("validation toy@16: networks=1.5 mean=0.1 worst=0.1 rms=0.1", "networks is 1.5"),
        ("validation toy@16: networks=9 mean=nan worst=0.1 rms=0.1", "finite number"),
        ("validation toy@16: networks=9 mean=0.1 worst=0.1 rms=inf", "finite number"),
        ("validation toy@16: networks=9 mean=-0.1 worst=0.1 rms=0.1", "not negative"),
        ("validation toy@16: networks=9", "rms"),
        ("calibration toy@16: scale=nan", "finite number"),
        ("calibration toy@16: scale=1 per_op_ms=-inf", "finite number"),
        ("transferred toy@16: from a; 3 networks measured", "no '# validation toy@16:'"),
        ("threads: 0", "0 is less than 1"),
        ("batch: 0", "0 is less than 1"),
        ("batch: two", "invalid literal"),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_line(saved, line, said):
    lines = saved.read_text().splitlines()
    at = next(number for number, one in enumerate(lines, 1) if not one.startswith("#"))
    saved.write_text("\n".join([*lines[: at - 1], f"# {line}", *lines[at - 1 :]]) + "\n")
    with pytest.raises(TableError, match=rf"toy\.csv:{at}: broken header line '.*{said}"):
        LatencyTable.load(saved)


def test_an_unknown_name_lists_what_is_known(saved):
    with pytest.raises(UsageError, match="unknown table 'nonesuch'"):
        LatencyTable.load("nonesuch")
    with pytest.raises(UsageError, match="no such table file"):
        LatencyTable.load("nonesuch.csv")


def test_a_card_finds_the_table_of_this_hardware_only(toy_table, tmp_path, monkeypatch):
    monkeypatch.setenv("LAT_DATA", str(tmp_path))
    setting = replace(toy_table.setting, device="my-card", hardware="another machine")
    replace(toy_table, setting=setting).save(tmp_path / "a.csv")
    with pytest.raises(UsageError, match="unknown table 'my-card'"):
        LatencyTable.load("my-card")
    replace(toy_table, setting=replace(setting, hardware=hardware())).save(tmp_path / "b.csv")
    assert LatencyTable.load("my-card").setting.hardware == hardware()
    assert [path.stem for path in tables_of("my-card")] == ["b"]
    assert {path.stem for path in tables_of("my-card", "another machine")} == {"a", "b"}


def test_a_failed_write_leaves_the_old_table(toy_table, saved, monkeypatch):
    before = saved.read_text()
    broken = replace(toy_table, rows={next(iter(toy_table)): Measurement(math.nan, 0, 1, 1)})
    failing = lambda *_: (_ for _ in ()).throw(OSError())  # noqa: E731
    monkeypatch.setattr("latency.whole_file.os.replace", failing)
    with pytest.raises(OSError):  # noqa: PT011 (any)
        broken.save(saved)
    assert saved.read_text() == before
    assert [path.name for path in saved.parent.glob("*.tmp")] == []


def test_the_error_of_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="device: 'table'"):  # noqa: SIM117
        with naming(Path("table")), open("/dev/full", "w") as file:
            file.write("a row")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file/a.csv", "Not a directory"),
        ("file/folder/a.csv", "Not a directory"),
        ("folder.csv", "Is a directory"),
        ("/proc/a.csv", "No such file or directory"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_named_as_it_was_given(tmp_path, place, said):
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match=said) as raised:
        write_whole(tmp_path / place, "a row")
    assert raised.value.filename == str(tmp_path / place)
    assert raised.value.filename2 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.csv"]


@pytest.mark.parametrize("content", ["text\r\n", b"\0bytes\n"])
def test_a_file_is_written_as_given(tmp_path, content):
    write_whole(tmp_path / "file", content)
    given = content if isinstance(content, bytes) else content.encode()
    assert (tmp_path / "file").read_bytes() == given
