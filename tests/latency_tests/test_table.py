"""Tables: round trip, prediction, and every broken file named by file and line."""

import csv
import io
import math
import os
from dataclasses import replace

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
from latency.graphs.fusion import Fusion
from latency.machine import hardware
from latency.tables.calibration import Calibration
from latency.tables.csv_file import read_summary
from latency.tables.library import tables_of
from latency.units import LEAST_MS, MOST_MS

FUSION_RULES = Fusion(frozenset(f"conv+x{i}" for i in range(40)), block=8)


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


def _dated(table, ms, row_time, header_date=""):
    """The table with rows that take `ms`, and a calibration and a note of as many."""
    return replace(
        table,
        rows={op: Measurement(ms, 0.1, 50, ms, row_time) for op in table},
        in_network_ms=dict.fromkeys(table, ms + 0.5),
        calibrations={"toy@16": Calibration(per_op_ms=ms)},
        circumstances={"date": header_date} if header_date else {},
    )


EARLY, LATE = "2026-01-02T23:30:00Z", "2026-01-03T00:30:00Z"


@pytest.mark.parametrize(
    ("times", "winner"),
    [
        ((EARLY, LATE), 2),
        ((LATE, EARLY), 1),
        ((LATE, LATE), 2),
        ((LATE, ""), 1),
        (("", EARLY), 2),
        (("soon", "2026"), 2),
        (("2026-01-03T00:30:00+00:00", "2026-01-03T01:00:00+02:00"), 1),
    ],
)
def test_the_row_that_was_measured_later_wins_in_whatever_order_tables_are_merged(
    toy_table, times, winner
):
    tables = [_dated(toy_table, ms, time) for ms, time in zip((1, 2), times, strict=True)]
    merged = tables[0].merge(tables[1])
    assert {row.median_ms for row in merged.rows.values()} == {winner}
    assert {*merged.in_network_ms.values()} == {winner + 0.5}
    assert merged.calibrations["toy@16"].per_op_ms == winner


def test_rows_without_a_time_are_as_old_as_their_header_says(toy_table):
    early, late = (_dated(toy_table, ms, "", f"2026-01-0{ms}") for ms in (1, 2))
    for merged in (early.merge(late), late.merge(early)):
        assert {row.median_ms for row in merged.rows.values()} == {2}
        assert merged.circumstances["date"] == "2026-01-02"


def test_each_row_is_as_new_as_it_says_whatever_table_it_is_in(toy_table):
    first, second, *_ = toy_table
    rows = {first: Measurement(1, 0, 9, 1, EARLY), second: Measurement(1, 0, 9, 1, LATE)}
    others = {first: Measurement(2, 0, 9, 2, LATE), second: Measurement(2, 0, 9, 2, EARLY)}
    one, other = (replace(toy_table, rows=each) for each in (rows, others))
    for merged in (one.merge(other), other.merge(one)):
        assert (merged[first].median_ms, merged[second].median_ms) == (2, 1)


def test_the_newest_table_of_a_card_is_the_one_measured_last_whatever_its_files_time(
    toy_table, tmp_path, monkeypatch
):
    monkeypatch.setenv("LAT_DATA", str(tmp_path))
    mine = replace(toy_table, setting=replace(toy_table.setting, hardware=hardware()))
    written = {"b": LATE, "c": "", "a": EARLY, "d": ""}
    for age, (stem, time) in enumerate(written.items()):
        header = "2026-01-05" if stem == "d" else ""
        _dated(mine, 1, time, header).save(tmp_path / f"{stem}.csv")
        os.utime(tmp_path / f"{stem}.csv", (1e9 + age, 1e9 + age))
    assert [path.stem for path in tables_of("toy-device")] == ["d", "b", "a", "c"]
    assert LatencyTable.load("toy-device").source.endswith("d.csv")


def test_a_failure_is_forgotten_once_the_operator_was_measured(toy_table):
    first, second, *_ = toy_table
    failures = {first.key: "too large", second.key: "too large"}
    rows = {op: row for op, row in toy_table.rows.items() if op not in (first, second)}
    before = replace(toy_table, rows=rows, failed=failures)
    now = replace(toy_table, rows={first: toy_table[first]})
    assert before.merge(now).failed == {second.key: "too large"}


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
    with pytest.raises(TableError, match=r"toy\.csv:1: format version unknown"):
        LatencyTable.load(saved)


def test_an_unknown_format_version_is_refused(saved):
    _edit(saved, "# format: 1", "# format: 7")
    with pytest.raises(TableError, match=r"toy\.csv:1: format version 7"):
        LatencyTable.load(saved)


def test_a_truncated_file_is_refused(saved):
    lines = saved.read_text().splitlines(keepends=True)
    saved.write_text("".join(lines[:-3]))
    with pytest.raises(TableError, match=r"truncated: it has [0-9]+ rows, the header states"):
        LatencyTable.load(saved)
    saved.write_text("".join(lines)[:-40])
    with pytest.raises(TableError, match=rf"toy\.csv:{len(lines)}: broken row"):
        LatencyTable.load(saved)


_NO_LATENCIES = ("nan", "0", "-1.5", "inf", "quick", "1e300", "1.1e9", "1e-300", "9e-7", "1_0")


@pytest.mark.parametrize("column", ["latency_ms", "min_ms", "in_network_ms"])
@pytest.mark.parametrize("latency", _NO_LATENCIES)
def test_a_latency_that_is_none_is_refused_with_its_line(saved, column, latency):
    number = _with_column(saved, column, latency)
    with pytest.raises(TableError, match=rf"toy\.csv:{number}: .*({column} is|not a number)"):
        LatencyTable.load(saved)


@pytest.mark.parametrize("column", ["latency_ms", "ci95_ms", "runs"])
def test_a_row_without_a_number_that_it_needs_is_refused_with_its_line(saved, column):
    number = _with_column(saved, column, "")
    with pytest.raises(TableError, match=rf"toy\.csv:{number}: broken row: {column} is empty"):
        LatencyTable.load(saved)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("ci95_ms", value) for value in ("-0.1", "1e300", "nan", "-inf")),
        *(("runs", value) for value in ("0", "1e16", "2.5", "-1", "\uff15", "1_0", "9" * 18)),
        *(("sittings", value) for value in ("0", "10000000", "x")),
        *(("memory_bytes", value) for value in ("-1", "9" * 18, "9" * 5000)),
        *(("temperature_c", value) for value in ("-300", "1e9", "nan", "warm")),
        *(("frequency_mhz", value) for value in ("-1", "1e300", "inf")),
    ],
)
def test_what_no_measurement_has_is_refused_with_its_line(saved, column, value):
    number = _with_column(saved, column, value)
    with pytest.raises(TableError, match=rf"toy\.csv:{number}: broken row: .*(is|not a) "):
        LatencyTable.load(saved)


def test_the_bounds_of_what_is_measured_read_back(toy_table, tmp_path):
    rows = [
        Measurement(LEAST_MS, 0.0, 1, LEAST_MS, memory_bytes=0, temperature_c=-40.5),
        Measurement(MOST_MS, math.inf, 10**15, LEAST_MS, sessions=10**6, frequency_mhz=2e3),
    ]
    table = replace(toy_table, rows=dict(zip(toy_table, rows, strict=False)))
    table.save(tmp_path / "t.csv")
    assert list(LatencyTable.load(tmp_path / "t.csv").rows.values()) == rows


@pytest.mark.parametrize(
    "row",
    [
        *(Measurement(ms, 0.1, 9, 1.0) for ms in (1e300, 1e-300, math.nan, math.inf, -1.0)),
        *(Measurement(1.0, 0.1, 9, 1.0, traced_ms=1e300), Measurement(1.0, 0.1, 0, 1.0)),
    ],
)
def test_a_table_that_could_not_be_read_again_is_not_written(toy_table, saved, row):
    before = saved.read_text()
    broken = replace(toy_table, rows={**toy_table.rows, next(iter(toy_table)): row})
    with pytest.raises(TableError, match=r"not written, since .*toy\.csv:\d+: broken row"):
        broken.save(saved)
    named = replace(toy_table, setting=replace(toy_table.setting, device=""))
    with pytest.raises(TableError, match=r"not written, since .*the header has no device"):
        named.save(saved)
    assert saved.read_text() == before


def test_whatever_is_told_of_a_table_reads_back_in_one_line(toy_table, tmp_path):
    first = next(iter(toy_table))
    note = 'two\r\nlines,\u2028and "quotes" # here\x1c'
    table = replace(
        toy_table,
        rows={first: replace(toy_table[first], note=note)},
        circumstances={"load": "one,\ntwo\x85three"},
        validations={"toy@16": Validation(12345678, 0.1, 0.2, 0.1)},
    )
    table.save(tmp_path / "t.csv")
    back = LatencyTable.load(tmp_path / "t.csv")
    assert back[first].note == 'two lines, and "quotes" no. here'
    assert back.circumstances == {"load": "one, two three"}
    assert back.validations == table.validations


def _as_a_spreadsheet_saves(text):
    """Comma-separated cells as they are written again: a byte-order mark, Windows' line ends, all
    lines as wide as the widest, and quotes where a cell has a comma or a quote."""
    rows = list(csv.reader(text.splitlines()))
    file = io.StringIO(newline="")
    csv.writer(file).writerows([*row, *[""] * (max(map(len, rows)) - len(row))] for row in rows)
    return b"\xef\xbb\xbf" + file.getvalue().encode()


@pytest.mark.parametrize("hardware", ["a board", "a board, 2 CPUs", 'a 19" board, 2 CPUs'])
@pytest.mark.parametrize("is_one_cell", [True, False])
def test_a_table_that_a_spreadsheet_saved_reads_as_before(
    toy_table, tmp_path, hardware, is_one_cell
):
    table = replace(
        toy_table,
        setting=replace(toy_table.setting, hardware=hardware),
        fusion=FUSION_RULES,
        circumstances={"load": ""},
        validations={"toy@16": Validation(12, 0.01, 0.02, 0.012)},
    )
    path = tmp_path / "t.csv"
    table.save(path)
    before = LatencyTable.load(path)
    text = path.read_text()
    if is_one_cell:
        lines = (
            f'"{one.replace(chr(34), 2 * chr(34))}"' if one[0] == "#" else one
            for one in text.splitlines()
        )
        text = "\n".join(lines)
    path.write_bytes(_as_a_spreadsheet_saves(text))
    assert replace(LatencyTable.load(path), source=before.source) == before
    assert read_summary(path)[0]["hardware"] == hardware


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
    with pytest.raises(TableError, match=rf"toy\.csv:{len(lines) + 1}: .* is in the table twice"):
        LatencyTable.load(saved)


def test_a_missing_column_is_refused(saved):
    _edit(saved, ",ci95_ms", ",ci_ms")
    with pytest.raises(TableError, match="the header row has no ci95_ms"):
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
        ("validation toy@16: networks=10000000000 mean=0.1 worst=0.1 rms=0.1", "1 to 1000000000"),
        (f"validation toy@16: networks={'9' * 30} mean=0.1 worst=0.1 rms=0.1", "whole number"),
        ("validation toy@16: networks=\uff19 mean=0.1 worst=0.1 rms=0.1", "not a whole number"),
        ("validation toy@16: networks=9 mean=0.1 worst=1e16 rms=0.1", "to 1e\\+15"),
        ("validation toy@16: networks=9 mean=0.1 mean=0.1 worst=0.1 rms=0.1", "a name twice"),
        ("calibration toy@16: scale=1e300", "within 1e\\+09"),
        ("calibration toy@16: scale=1_0", "not a number"),
        ("fusion: pairs=conv+add colour=red block=8", "not a list of fusion rules"),
        ("validation toy@16: networks=9 mean=nan worst=0.1 rms=0.1", "must be from 0 to"),
        ("validation toy@16: networks=9 mean=0.1 worst=0.1 rms=inf", "must be from 0 to"),
        ("validation toy@16: networks=9 mean=-0.1 worst=0.1 rms=0.1", "must be from 0 to"),
        ("validation toy@16: networks=9", "rms"),
        ("calibration toy@16: scale=nan", "must be within"),
        ("calibration toy@16: scale=1 per_op_ms=-inf", "must be within"),
        ("transferred toy@16: from a; 3 networks measured", "no '# validation toy@16:'"),
        ("threads: 0", "0 is less than 1"),
        ("batch: 0", "0 is less than 1"),
        *(("batch: two", "not a whole number"), ("batch: \uff12", "not a whole number")),
    ],
)
def test_a_header_that_cannot_be_is_refused_with_its_line(saved, line, said):
    key = f"# {line.partition(':')[0]}:"
    lines = [one for one in saved.read_text().splitlines() if not one.startswith(key)]
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
    other = replace(toy_table, rows={next(iter(toy_table)): Measurement(2.0, 0, 1, 1)})
    failing = lambda *_: (_ for _ in ()).throw(OSError())  # noqa: E731
    monkeypatch.setattr("latency.atomic_file.os.replace", failing)
    with pytest.raises(OSError):  # noqa: PT011 (any)
        other.save(saved)
    assert saved.read_text() == before
    assert [path.name for path in saved.parent.glob("*.tmp")] == []
