"""`lat-report`: the content of its files, and each mistake as one line."""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browsing import needs_chromium
from saved_runs import LEAN, OTHER, save_front, save_run, save_table

import search
from latency import LatencyTable, LatError, Measurement, OpSpec, Setting
from search import report, spaces
from search.commands.report_command import main, write_or_notice
from search.commands.search_command import main as lat_search
from search.report.page import render
from search.report.run.blocks import chosen
from search.report.run.front import front_page
from search.report.run.probabilities import candidate_looks
from search.report.run.saved_run import SavedRun
from search.report.table.figures import stages_figure

MOST_BYTES = 5_000_000
MIXED = (OpSpec.parse("conv-8x8x8-8-k3-s1-relu"), None, OpSpec.parse("conv-8x8x8-8-k3-s1-relu6"))


class _Loads(HTMLParser):
    """Collects what a page would load from other addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        links = [values.get("src"), values.get("href") if tag == "link" else None]
        self.found += [link for link in links if link and not link.startswith("data:")]


@pytest.fixture
def run_folder(tmp_path, mini_csv) -> Path:
    return save_run(tmp_path / "run", mini_csv)


@pytest.fixture
def kernels_csv(tmp_path, mini_csv) -> Path:
    return save_table(tmp_path / "kernels.csv", mini_csv)


def html_of(path: Path) -> str:
    """The HTML of a report, checked to be small and to load nothing."""
    assert path.stat().st_size < MOST_BYTES
    text = path.read_text()
    loads = _Loads()
    loads.feed(text)
    assert loads.found == []
    return text


def test_a_search_is_reported_in_its_folder(invoke, run_folder):
    code, out, _ = invoke(main, "run", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["report"] == "run/report.html"
    wanted = ["network", "budget", "curves", "probabilities", "tradeoff", "operators"]
    assert answer["figures"] == wanted
    text = html_of(run_folder / "report.html")
    for text_shown in (
        "Meets the budget, as measured",
        "lat-search --target phone --budget 400us",
        "evolution",
        "4.00 MB",
        "warmup steps",
        "some phone",
        "2.13.0+cpu",
        "some board, 2 CPUs",
        "<th>processes</th><td>4</td>",
        "own.toml, as saved:",
        "resolution = 32  # &lt;b&gt;mine&lt;/b&gt;",
    ):
        assert text_shown in text


def test_a_search_without_steps_and_other_networks_has_fewer_figures(invoke, tmp_path, mini_csv):
    save_run(tmp_path / "lean", mini_csv, **LEAN, measured_ms=None, meets_budget=False)
    code, out, _ = invoke(main, "lean", "--json")
    assert code == 0
    assert json.loads(out)["figures"] == ["network", "budget"]
    assert "Misses the budget, as predicted" in html_of(tmp_path / "lean" / "report.html")


@pytest.mark.parametrize("field", ["budgets", "history", "operators"])
def test_the_error_for_a_result_without_a_field_names_the_field(run_folder, field):
    path = run_folder / "result.json"
    result = json.loads(path.read_text())
    del result[field]
    path.write_text(json.dumps(result))
    with pytest.raises(LatError, match=f"not a result of lat-search: {field} is missing"):
        SavedRun.load(run_folder)


def test_a_run_keeps_its_breakdown_when_its_table_is_missing(run_folder, mini_csv):
    mini_csv.unlink()
    assert "operators" in [picture.name for picture in report.run_page(run_folder).pictures]


def test_each_target_has_its_breakdown_and_its_table(tmp_path, mini_csv):
    other = tmp_path / "other.csv"
    table = LatencyTable.load(mini_csv)
    twice = {op: replace(row, median_ms=2 * row.median_ms) for op, row in table.rows.items()}
    setting = replace(table.setting, hardware="other board")
    replace(table, setting=setting, rows=twice, in_network_ms={}).save(other)
    budgets = [
        {**_BUDGET, "name": name, "table": str(path)}
        for name, path in (("phone", mini_csv), ("board", other))
    ]
    saved = json.loads((save_run(tmp_path / "one", mini_csv) / "result.json").read_text())
    operators = {"phone": saved["operators"]["phone"], "board": saved["operators"]["phone"]}
    folder = save_run(tmp_path / "run", mini_csv, budgets=budgets, operators=operators)
    page = report.run_page(folder)
    assert [picture.name for picture in page.pictures][-2:] == ["operators", "operators-2"]
    text = html_of(report.write_report(folder))
    for text_shown in ("board: measured with", "other board", "network on board", str(other)):
        assert text_shown in text


def test_the_training_loss_is_drawn_beside_the_validation_loss(run_folder):
    curves = next(one for one in report.run_page(run_folder).pictures if one.name == "curves")
    lines = {trace.name: trace for trace in curves.figure.data}
    assert lines["training"].y[:2] == (2.0, 2.0)
    assert lines["validation"].y[0] == 2.3
    assert lines["training"].yaxis == lines["validation"].yaxis


def test_skipped_blocks_are_drawn_hollow(run_folder):
    run = SavedRun.load(run_folder)
    assert [*map(tuple, run.result.candidates)] == [*map(tuple, spaces.load("mini").blocks)]
    assert [*chosen(run, run.result.choices, "found").blocks].count(None) == 2


@pytest.mark.parametrize("name", spaces.known())
def test_candidates_of_a_block_have_distinct_looks(name):
    for block in spaces.load(name).blocks:
        labels, colours, places = zip(*candidate_looks(block), strict=True)
        assert sorted(places) == list(range(len(block)))
        assert len(set(labels)) == len(set(colours)) == len(block)
    labels, colours, _ = zip(*candidate_looks(MIXED), strict=True)
    assert labels == ("conv k3 s1 relu", "conv k3 s1 relu6", "skip")
    assert len(set(colours)) == 3


def test_a_front_without_a_search_is_reported_too(invoke, tmp_path):
    front = save_front(tmp_path / "front")
    for name in ("front", "front/pareto.json"):
        code, out, _ = invoke(main, name, "--json")
        assert code == 0
        assert json.loads(out) == {
            "report": "front/report.html",
            "figures": ["tradeoff", "front"],
            "pictures": [],
        }
    (front / "pareto.json").write_text("{}")
    code, _, err = invoke(main, "front")
    assert code == 1
    assert "pareto.json: not a front of lat-search" in err


def test_a_real_search_can_be_reported(invoke, mini_csv, tmp_path):
    arguments = [
        "--target",
        mini_csv,
        "--space",
        "mini",
        "--steps",
        "6",
        "--train-steps",
        "3",
        "--baselines",
        "0",
    ]
    assert invoke(lat_search, *arguments, "--budget", "400us", "--out", "run")[0] == 0
    assert report.write_report(tmp_path / "run") == tmp_path / "run" / "report.html"
    assert "mini@32" in html_of(tmp_path / "run" / "report.html")


def test_a_table_is_reported_beside_it(invoke, kernels_csv):
    code, out, err = invoke(main, kernels_csv, "--json")
    assert code == 0
    assert "predicting a fifth" in err
    assert json.loads(out)["figures"] == [
        "latency",
        "roofline",
        "stages",
        "predicted",
        "spread",
    ]
    text = html_of(kernels_csv.with_suffix(".html"))
    for text_shown in (
        "8 of 50 operators measured alone are unstable",
        "drift: 3 of 99 rounds",
        "1.10 %",
    ):
        assert text_shown in text


def test_inverted_bottlenecks_that_differ_in_anything_have_a_cell_each():
    tails = ("relu", "relu6", "relu6-se0.25", "relu6-b8", "relu6-se0.5")
    ops = [OpSpec.parse(f"mbconv-8x8x16-16-k3-s1-e3-{tail}") for tail in tails]
    ops.append(OpSpec.parse("mbconv-8x4x16-16-k3-s1-e3-relu6"))
    rows = {op: Measurement(ms, 0.01, 20, ms) for ms, op in enumerate(ops, 1)}
    table = LatencyTable(Setting("phone", "some phone", "", "someruntime 2"), rows)
    (heat,) = stages_figure(table).data
    assert sorted(cell for row in heat.text for cell in row) == ["1", "2", "3", "4", "5", "6"]
    assert heat.y[2] == "8² 16→16 relu6 se0.25 b1"
    (alike,) = stages_figure(replace(table, rows={ops[0]: rows[ops[0]]})).data
    assert alike.y == ("8² 16→16",)


def test_text_of_a_table_is_escaped(invoke, kernels_csv):
    assert invoke(main, kernels_csv)[0] == 0
    text = html_of(kernels_csv.with_suffix(".html"))
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert(1)" not in text
    assert "<b>stop</b>" not in text


def test_two_tables_are_compared(invoke, mini_csv, tmp_path):
    table = LatencyTable.load(mini_csv)
    slower = {
        op: replace(row, median_ms=1.5 * row.median_ms) if op.kernel == 7 else row
        for op, row in table.rows.items()
    }
    replace(table, rows=slower).save(tmp_path / "slow.csv")
    code, out, _ = invoke(main, mini_csv, "slow.csv", "--json")
    assert code == 0
    assert json.loads(out)["report"] == "far-away-and-slow.html"
    text = html_of(tmp_path / "far-away-and-slow.html")
    count = sum(op.kernel == 7 for op in table)
    assert f"significant ({count})" in text
    assert "1.500" in text


def test_two_searches_are_compared(invoke, run_folder, tmp_path, mini_csv):
    save_run(tmp_path / "other", mini_csv, seed=8, valid_accuracy=0.5)
    code, out, _ = invoke(main, "run", "other", "--json")
    assert code == 0
    assert json.loads(out)["figures"] == ["network", "budget", "curves"]
    text = html_of(tmp_path / "run-and-other.html")
    assert "<td>seed</td><td>7</td><td>8</td>" in text
    assert "50.0 %" in text
    assert "<td>space</td>" not in text


def test_budgets_of_searches_are_on_one_axis_in_percent(run_folder, tmp_path, mini_csv):
    limit = {**_BUDGET, "limit": 0.5, "predicted": 0.4}
    other = save_run(tmp_path / "other", mini_csv, **LEAN, budgets=[limit])
    pictures = report.runs_page(run_folder, other).pictures
    figure = next(one.figure for one in pictures if one.name == "budget")
    assert figure.layout.xaxis.title.text == "% of the budget"
    assert [y for trace in figure.data for y in trace.y] == [
        "A phone predicted",
        "A phone measured",
        "A macs predicted",
        "A memory predicted",
        "B phone predicted",
    ]
    assert figure.data[-1].x == (80.0,)
    assert figure.data[-1].text == ("400 µs",)


_OF_NOTHING = {"op": "x", "ms": 1.0, "low_ms": 0.9, "high_ms": 1.1, "source": "measured"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "unknown table 'nowhere'"),
        (["."], 2, "no finished search (result.json is missing)"),
        (["."], 2, "is missing): lat-search ... --out ."),
        (["begun"], 2, "lat-search ... --out begun --resume"),
        (["trained"], 2, "a retrained network has no report"),
        (["trained", "run"], 2, "see trained/retrain.json"),
        (["run", "front"], 2, "front: only searches are compared"),
        (["front", "front"], 2, "only searches are compared"),
        (["empty"], 1, "empty/pareto.json: the front has no networks"),
        (["kept"], 1, "kept/result.json: not a result of lat-search: operators.phone.1.op: 'x' is"),
        (["run", "far-away.csv"], 2, "a search and a table, which cannot be compared"),
        (["run", "--out", "report.pdf"], 2, "should end in .html"),
        (["broken"], 1, "broken/result.json: not a result of lat-search: target, data, seed, "),
        (["damaged"], 1, "damaged/result.json: not a result of lat-search: budgets.1.limit: is"),
        (["far-away.csv", "--out", "run/result.json/x.html"], 2, "run/result.json"),
    ],
)
def test_mistakes_are_one_line(invoke, run_folder, tmp_path, arguments, code, message):
    damaged = [{"name": "phone", "unit": "ms"}]
    save_run(tmp_path / "damaged", tmp_path / "far-away.csv", budgets=damaged)
    save_run(tmp_path / "kept", tmp_path / "far-away.csv", operators={"phone": [_OF_NOTHING]})
    save_front(tmp_path / "front")
    save_front(tmp_path / "empty", ())
    for name in ("broken", "begun/checkpoint", "trained"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "trained" / "retrain.json").write_text("{}")
    (tmp_path / "broken" / "result.json").write_text('{"space": "mini@32"}')
    got, out, err = invoke(main, *arguments)
    assert (got, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_without_plotly_the_command_names_the_extra_and_a_search_goes_on(
    invoke, run_folder, monkeypatch, capsys
):
    for name in [name for name in sys.modules if name.startswith("search.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(search, "report")
    monkeypatch.setitem(sys.modules, "plotly", None)
    code, _, err = invoke(main, "run")
    assert code == 2
    assert "pip install 'lat-search[report]'" in err
    write_or_notice(run_folder)
    assert "no report" in capsys.readouterr().err
    assert not (run_folder / "report.html").exists()


def test_a_report_that_cannot_be_written_ends_no_search(run_folder, capsys):
    (run_folder / "report.html").mkdir()
    write_or_notice(run_folder)
    message = capsys.readouterr().err
    assert message.startswith("no report: ")
    assert message.endswith(f"; to make it: lat-report {run_folder}\n")
    assert message.count("\n") == 1


_CANNOT_BE = (None, -1, 0, math.nan, math.inf, "x", [], {}, [[]], {"a": 1}, "a\0b")


@pytest.mark.parametrize("file", ["result.json", "pareto.json"])
def test_an_invalid_field_in_a_file_of_a_run_is_a_one_line_error(tmp_path, mini_csv, file):
    """Each field in turn, also those of the first item of a list."""
    folder = tmp_path / "run"
    save_run(folder, mini_csv) if file == "result.json" else save_front(folder)
    whole, messages = json.loads((folder / file).read_text()), []
    for path in _fields(whole):
        for value in _CANNOT_BE:
            (folder / file).write_text(json.dumps(_changed(whole, path, value)))
            try:
                SavedRun.load(folder) if file == "result.json" else front_page(folder)
            except LatError as error:
                messages.append(str(error))
    assert len(messages) > 100
    assert not any("\n" in one for one in messages)
    for text in ("", "[]", "null", "[" * 99999, "\0", '{"target": "\\ud800"}', "é"):
        (folder / file).write_bytes(text.encode("latin-1"))
        with pytest.raises(LatError, match=f"{file}: not a (result|front) of lat-search: "):
            report.run_page(folder)


def _fields(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(content, dict | list) and content:
        for key in [*content] if isinstance(content, dict) else [0]:
            yield (*path, key)
            yield from _fields(content[key], (*path, key))


def _changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    first, *rest = path
    copy = content.copy()
    copy[first] = _changed(content[first], tuple(rest), value) if rest else value
    return copy


_BUDGET = {
    **{"name": "phone", "unit": "ms", "limit": 1.0},
    **{"predicted": 0.0, "predicted_low": 0.0, "predicted_high": 0.0},
    **{"measured": None, "measured_low": None, "measured_high": None},
}


@pytest.mark.parametrize(
    "changes",
    [
        {"probabilities": [[0.5, 0.5]]},
        {"probabilities": [[0.5, 0.5]], "history": []},
        {"choices": [0]},
        {"choices": [99] * 9},
        {"candidates": [["conv-8x8x8-8-k3-s1"]]},
        {"candidates": [["x"]]},
        {"space": "mini@" + "9" * 5000},
        {"space": "mini-w1.2.3@32"},
        {"space": "mini@0"},
        {"budgets": [{**_BUDGET, "limit": 1e-18, "predicted_low": 0.0, "predicted_high": 1.0}]},
        {"budget_ms": None},
        {"budgets": []},
        {"attempts": [{"choices": [0] * 9, "predicted": {}, "measured": {}}] * 2},
        {"operators": {"phone": [{**_OF_NOTHING, "op": OTHER.key, "ms": 0.0}]}},
        {"operators": {}, "budgets": [{**_BUDGET, "table": "/dev/zero"}]},
        {"operators": {}, "budgets": [{**_BUDGET, "table": "a\0b"}]},
        {"target": "<script>alert(1)</script>", "strategy": "</html>"},
    ],
)
def test_inconsistent_parts_of_a_result_are_omitted_or_an_error(tmp_path, mini_csv, changes):
    folder = save_run(tmp_path / "run", mini_csv, **changes)
    try:
        text = render(report.run_page(folder))
    except LatError as error:
        text = str(error)
        assert text.startswith(f"{folder / 'result.json'}: not a result of lat-search: ")
        assert "\n" not in text
    assert "<script>alert" not in text


def test_a_report_is_opened_in_a_browser_on_request(invoke, run_folder, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert invoke(main, "run")[0] == 0
    assert opened == []
    assert invoke(main, "run", "--open")[0] == 0
    assert opened == [(run_folder / "report.html").as_uri()]


def test_pictures_without_kaleido_or_a_browser_name_what_to_install(
    invoke, run_folder, monkeypatch
):
    finds_none = classmethod(lambda cls, **options: None)
    monkeypatch.setattr("choreographer.browsers.chromium.Chromium.find_browser", finds_none)
    code, _, err = invoke(main, "run", "--png", "pictures")
    assert code == 2
    assert "apt-get install chromium" in err
    monkeypatch.setitem(sys.modules, "kaleido", None)
    code, _, err = invoke(main, "run", "--png", "pictures")
    assert code == 2
    assert "lat-search[report]" in err


@needs_chromium
def test_pictures_are_written_one_a_figure(invoke, run_folder, tmp_path):
    code, out, err = invoke(main, "run", "--png", "pictures", "--json")
    assert code == 0, err
    answer = json.loads(out)
    written = {path.stem: path for path in (tmp_path / "pictures").iterdir()}
    assert sorted(written) == sorted(answer["figures"])
    for path in written.values():
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 5_000
