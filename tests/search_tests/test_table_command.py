"""`lat-table`: what it prints, what it writes, and each of the user's mistakes as a clear line."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from latency import LatencyTable, Measurement, OpSpec, Validation
from latency.errors import TableError
from latency.tables.measurement import Origin
from search.commands.table_command import COMMANDS, main

BLOCK = "expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:5-stride:1-idskip:1"
PUBLISHED = f"{BLOCK}:\n  count: 100\n  mean: 2.5\n  var: 0.04\n"


@pytest.fixture
def lat_table(monkeypatch, capsys, tmp_path):
    """Run `lat-table`; its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["lat-table", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        done = capsys.readouterr()
        return stop.value.code, done.out, done.err

    return call


@pytest.fixture
def toy_csv(toy_table, tmp_path) -> Path:
    """A table with one unstable row, a validation, and a circumstance that takes many words."""
    slowest = max(toy_table, key=lambda op: toy_table[op].median_ms)
    shaky = replace(toy_table[slowest], ci95_ms=0.3 * toy_table[slowest].median_ms)
    table = replace(
        toy_table,
        rows={**toy_table.rows, slowest: shaky},
        validations={"toy@16": Validation(12, 0.011, 0.02, 0.012)},
        circumstances={"clock": "governor " + 20 * "performance "},
    )
    table.save(tmp_path / "toy.csv")
    return tmp_path / "toy.csv"


def test_show_tells_circumstances_slowest_unstable_and_validation(lat_table, toy_csv):
    code, out, _ = lat_table("show", toy_csv, "--rows", "3")
    assert code == 0
    for said in ("toy hardware", "toyruntime 1.0", "mean error 1.10 %", "1 unstable"):
        assert said in out
    table = LatencyTable.load(toy_csv)
    slowest = sorted(table, key=lambda op: -table[op].median_ms)
    assert out.count(slowest[0].key) == 2
    assert slowest[2].key in out
    assert slowest[3].key not in out
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_kernels_inside_networks_are_not_told_to_be_measured_again(lat_table, toy_csv):
    table = LatencyTable.load(toy_csv)
    rows = {op: replace(row, origin=Origin.INSIDE_NETWORKS) for op, row in table.rows.items()}
    replace(table, rows=rows).save(toy_csv)
    code, out, _ = lat_table("show", toy_csv)
    assert code == 0
    assert "unstable" not in out


def test_show_as_json_holds_every_operator(lat_table, toy_csv):
    code, out, _ = lat_table("show", toy_csv, "--json")
    assert code == 0
    told, table = json.loads(out), LatencyTable.load(toy_csv)
    assert {op["key"] for op in told["ops"]} == {op.key for op in table}
    assert told["setting"]["hardware"] == "toy hardware"
    assert len(told["unstable"]) == 1
    assert told["validation"]["toy@16"]["networks"] == 12


def test_show_as_json_has_traced_latencies(lat_table, toy_csv):
    table = LatencyTable.load(toy_csv)
    slowest = max(table, key=lambda op: table[op].median_ms)
    rows = {**table.rows, slowest: replace(table[slowest], traced_ms=7.0)}
    replace(table, rows=rows).save(toy_csv)
    told = json.loads(lat_table("show", toy_csv, "--json")[1])
    assert [op["traced_ms"] for op in told["ops"] if op["traced_ms"]] == [7.0]


def test_diff_names_what_became_slower(lat_table, toy_table, tmp_path):
    first = next(iter(toy_table))
    ms = 1.2 * toy_table[first].median_ms
    slower = {**toy_table.rows, first: Measurement(ms, 0.005 * ms, 50, ms)}
    toy_table.save(tmp_path / "a.csv")
    replace(toy_table, rows=slower).save(tmp_path / "b.csv")
    code, out, _ = lat_table("diff", "a.csv", "b.csv")
    assert code == 0
    (marked,) = [line for line in out.splitlines() if line.rstrip().endswith("*")]
    assert marked.startswith(first.key)
    assert "1.200" in marked
    assert f"1 of {len(toy_table)} common operators differ significantly" in out
    assert max(map(len, out.splitlines())) <= 80
    told = json.loads(lat_table("diff", "a.csv", "b.csv", "--json")[1])
    assert told["significant"] == 1
    assert told["common"][0]["key"] == first.key


def test_merge_writes_the_rows_of_all(lat_table, toy_table, tmp_path):
    ops = list(toy_table)
    for name, some in (("a", ops[:5]), ("b", ops[3:])):
        replace(toy_table, rows={op: toy_table[op] for op in some}).save(tmp_path / f"{name}.csv")
    code, out, _ = lat_table("merge", "a.csv", "b.csv", "--out", "both.csv")
    assert code == 0
    assert f"{len(ops)} operators: both.csv" in out
    assert set(LatencyTable.load(tmp_path / "both.csv")) == set(toy_table)


@pytest.mark.parametrize(
    ("part", "value"), [("batch", 8), ("precision", "float16"), ("runtime", "toyruntime 2.0")]
)
def test_tables_of_two_settings_are_not_merged_and_why_is_said(
    lat_table, toy_table, tmp_path, part, value
):
    toy_table.save(tmp_path / "a.csv")
    other = replace(toy_table, setting=replace(toy_table.setting, **{part: value}))
    other.save(tmp_path / "b.csv")
    code, out, err = lat_table("merge", "a.csv", "b.csv", "--out", "both.csv")
    assert (code, out) == (1, "")
    assert f"{part} '{getattr(toy_table.setting, part)}' and '{value}'" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "both.csv").exists()


def test_a_published_table_is_imported_and_exported(lat_table, tmp_path):
    (tmp_path / "theirs.yaml").write_text(PUBLISHED)
    words = ["theirs.yaml", "--format", "proxylessnas", "--device", "pixel1", "--out", "pixel.csv"]
    code, out, _ = lat_table("import", *words, "--hardware", "Google Pixel 1")
    assert (code, out) == (0, "1 operators: pixel.csv\n")
    table = LatencyTable.load(tmp_path / "pixel.csv")
    assert (table.setting.device, table.setting.hardware) == ("pixel1", "Google Pixel 1")
    words = ["pixel.csv", "--format", "proxylessnas", "--out", "again.yaml", "--json"]
    code, out, _ = lat_table("export", *words)
    assert code == 0
    assert json.loads(out) == {"file": "again.yaml", "operators": 1, "left_out": []}
    assert yaml.safe_load((tmp_path / "again.yaml").read_text())[BLOCK]["mean"] == 2.5


def test_an_export_counts_what_it_leaves_out_and_json_names_it(lat_table, toy_csv):
    words = ["export", toy_csv, "--format", "ofa", "--out", "out.yaml"]
    code, out, err = lat_table(*words)
    assert (code, out) == (1, "")
    assert "ofa has no keys for" in err
    code, out, err = lat_table(*words, "--partial", "--json")
    assert code == 0
    left_out = [OpSpec.parse(key) for key in json.loads(out)["left_out"]]
    for kind, count in Counter(op.kind for op in left_out).items():
        assert f"{count} {kind}" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shw"], "lat-table: No such command 'shw'. Did you mean 'show'?"),
        ([], "Missing command"),
        (["show"], "lat-table show: Missing argument"),
        (["show", "nonesuch"], "unknown table 'nonesuch'"),
        (["show", "nonesuch.csv"], "no such table file"),
        (["diff", "toy.csv"], "Missing argument"),
        (["merge", "toy.csv", "--out", "x.csv"], "two tables or more"),
        (["merge", "toy.csv", "toy.csv", "--out", "x.txt"], "should end in .csv"),
        (["export", "toy.csv", "--format", "of", "--out", "x.yaml"], "did you mean 'ofa'"),
        (["export", "toy.csv", "--format", "ofa", "--out", "x.csv"], "should end in .yaml"),
        (["import", "x.yaml", "--device", "d", "--out", "x.csv"], "Missing option '--format'"),
    ],
)
def test_words_that_are_off_are_one_line_and_exit_code_2(lat_table, toy_csv, words, said):
    code, out, err = lat_table(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("text", ["a: &a [1]\n", "!!python/name:os.system x: 1\n", "", "{a: {b"])
def test_a_file_that_is_no_table_is_one_line_and_exit_code_1(lat_table, tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    words = ["bad.yaml", "--format", "ofa", "--device", "d", "--out", "x.csv"]
    code, out, err = lat_table("import", *words)
    assert (code, out) == (TableError.exit_code, "")
    assert "bad.yaml" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_has_help_with_examples(lat_table, command):
    code, out, _ = lat_table(*([command] if command else []), "--help")
    assert code == 0
    assert f"lat-table {command or 'show'} " in out.partition("Examples:")[2]
