"""`lat-report`: what its files show, in a real browser, and each mistake as a line."""

import json
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browsing import CLIPPED, DATA, needs_chromium, visit
from saved_runs import OLDER, STEPS, save_run

from latency import LatencyTable, Measurement, NetworkSpec, OpSpec, Validation
from search import report, spaces
from search.commands.report_command import main, write_or_notice
from search.commands.search_command import main as lat_search
from search.report.probabilities import candidate_looks
from search.report.saved_run import SavedRun

MOST_BYTES = 5_000_000
MIXED = (OpSpec.parse("conv-8x8x8-8-k3-s1-relu"), None, OpSpec.parse("conv-8x8x8-8-k3-s1-relu6"))


class _Loads(HTMLParser):
    """Collects whatever a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        links = [told.get("src"), told.get("href") if tag == "link" else None]
        self.found += [link for link in links if link and not link.startswith("data:")]


@pytest.fixture
def run_folder(tmp_path, mini_csv) -> Path:
    return save_run(tmp_path / "run", mini_csv)


@pytest.fixture
def kernels_csv(tmp_path, mini_csv) -> Path:
    """A table of a space and of kernels, with rows that did not settle and a validation."""
    table = LatencyTable.load(mini_csv)
    rows = dict(table.rows)
    for channels in (16, 32, 64, 128):
        sizes = f"14x14x{channels}-{channels}"
        for tail in (f"k3-s1-g{channels}", "k3-s1"):
            op = OpSpec.parse(f"conv-{sizes}-{tail}")
            ms = 0.004 + op.macs * 6e-8 + channels * 1e-5
            rows[op] = Measurement(ms, 0.2 * ms, 20, ms, note="unstable: <b>stop</b> other work")
    checked = replace(
        table,
        rows=rows,
        validations={"mini@32": Validation(12, 0.011, 0.02, 0.012)},
        circumstances={"measured mini@32": "drift: 3 of 99 rounds", "clock": "<script>alert(1)"},
    )
    checked.save(tmp_path / "kernels.csv")
    return tmp_path / "kernels.csv"


def told(path: Path) -> str:
    """A report's HTML, which must be small and must load nothing."""
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
    wanted = ["network", "budget", "curves", "probabilities", "tradeoff", "front", "operators"]
    assert answer["figures"] == wanted
    text = told(run_folder / "report.html")
    for words in (
        "Meets the budget, as measured",
        "lat-search --target phone --budget 400us",
        "evolution",
        "4.00 MB",
        "warmup steps",
        "some phone",
    ):
        assert words in text


def test_a_result_of_an_older_search_lacks_figures_rather_than_failing(invoke, tmp_path, mini_csv):
    lean = {**OLDER, "probabilities": None, "attempts": None, "history": None, "strategy": None}
    save_run(tmp_path / "old", mini_csv, **lean, measured_ms=None, meets_budget=False)
    code, out, _ = invoke(main, "old", "--json")
    assert code == 0
    assert json.loads(out)["figures"] == ["network", "budget", "operators"]
    assert "Misses the budget, as predicted" in told(tmp_path / "old" / "report.html")


def test_a_run_whose_table_is_gone_says_so(invoke, run_folder, mini_csv):
    mini_csv.unlink()
    code, out, _ = invoke(main, "run", "--json")
    assert code == 0
    assert "operators" not in json.loads(out)["figures"]
    assert "is not at hand" in told(run_folder / "report.html")


def test_skipped_blocks_are_known_from_the_space_and_only_where_it_is_the_same(run_folder):
    run = SavedRun.load(run_folder)
    assert run.blocks is not None
    assert [run.blocks[block][i] for block, i in enumerate(run.choices)].count(None) == 2
    assert replace(run, result={**run.result, "choices": [0] * 9}).blocks is None
    unknown = {**run.result, "space": "mine@32"}
    assert replace(run, result=unknown).blocks is None
    keys = [[op.key if op else None for op in block] for block in run.blocks]
    assert replace(run, result={**unknown, "candidates": keys}).blocks == run.blocks


@pytest.mark.parametrize("name", spaces.known())
def test_candidates_of_a_block_are_told_apart(name):
    for block in spaces.load(name).blocks:
        labels, colours, places = zip(*candidate_looks(block), strict=True)
        assert sorted(places) == list(range(len(block)))
        assert len(set(labels)) == len(set(colours)) == len(block)
    labels, colours, _ = zip(*candidate_looks(MIXED), strict=True)
    assert labels == ("conv k3 s1 relu", "conv k3 s1 relu6", "skip")
    assert len(set(colours)) == 3


def test_a_front_without_a_search_is_reported_too(invoke, run_folder, tmp_path):
    told_of = dict.fromkeys(("target", "space", "data", "seed", "version"), "mini")
    network = {"budget_ms": 0.1, "predicted_ms": 0.1, "valid_accuracy": 0.9, "network": "n.json"}
    (tmp_path / "front").mkdir()
    (tmp_path / "front" / "n.json").write_text((run_folder / "network.json").read_text())
    path = tmp_path / "front" / "pareto.json"
    path.write_text(json.dumps({**told_of, "networks": [network, {**network, "predicted_ms": 1}]}))
    code, out, _ = invoke(main, "front", "--json")
    assert code == 0
    assert json.loads(out)["figures"] == ["tradeoff", "front"]
    path.write_text("{}")
    code, _, err = invoke(main, "front")
    assert code == 1
    assert "pareto.json: not a front of lat-search" in err


def test_a_real_search_can_be_reported(invoke, mini_csv, tmp_path):
    words = [
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
    assert invoke(lat_search, *words, "--budget", "400us", "--out", "run")[0] == 0
    assert report.write_report(tmp_path / "run") == tmp_path / "run" / "report.html"
    assert "mini@32" in told(tmp_path / "run" / "report.html")


def test_a_table_is_reported_beside_it(invoke, kernels_csv):
    code, out, err = invoke(main, kernels_csv, "--json")
    assert code == 0
    assert "predicting a fifth" in err
    assert json.loads(out)["figures"] == [
        "latency",
        "roofline",
        "stages-mini-32",
        "predicted",
        "spread",
    ]
    text = told(kernels_csv.with_suffix(".html"))
    for words in (
        "8 of 49 operators measured alone did not settle",
        "drift: 3 of 99 rounds",
        "1.10 %",
    ):
        assert words in text


def test_words_of_a_table_are_never_markup(invoke, kernels_csv):
    assert invoke(main, kernels_csv)[0] == 0
    text = told(kernels_csv.with_suffix(".html"))
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
    text = told(tmp_path / "far-away-and-slow.html")
    count = sum(op.kernel == 7 for op in table)
    assert f"significant ({count})" in text
    assert "1.500" in text


def test_two_searches_are_compared(invoke, run_folder, tmp_path, mini_csv):
    save_run(tmp_path / "other", mini_csv, seed=8, valid_accuracy=0.5)
    code, out, _ = invoke(main, "run", "other", "--json")
    assert code == 0
    assert json.loads(out)["figures"] == ["network", "curves"]
    text = told(tmp_path / "run-and-other.html")
    assert "<td>seed</td><td>7</td><td>8</td>" in text
    assert "50.0 %" in text
    assert "<td>space</td>" not in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 2, "unknown table 'nowhere'"),
        (["."], 2, "no finished search (result.json is absent)"),
        (["run", "far-away.csv"], 2, "two of one kind can be compared"),
        (["run", "--out", "report.pdf"], 2, "ends in .html"),
        (["broken"], 1, "broken/result.json: not a result of lat-search: target, predicted_ms"),
        (["damaged"], 1, "damaged/result.json: not a result of lat-search: KeyError('limit')"),
        (["far-away.csv", "--out", "run/result.json/x.html"], 1, "run/result.json"),
    ],
)
def test_mistakes_are_one_line(invoke, run_folder, tmp_path, words, code, said):
    damaged = [{"name": "phone", "unit": "ms"}]
    save_run(tmp_path / "damaged", tmp_path / "far-away.csv", budgets=damaged)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "result.json").write_text('{"space": "mini@32"}')
    got, out, err = invoke(main, *words)
    assert (got, out) == (code, "")
    assert said in err
    assert "Traceback" not in err


def test_without_plotly_the_command_names_the_extra_and_a_search_goes_on(
    invoke, run_folder, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "plotly", None)
    code, _, err = invoke(main, "run")
    assert code == 2
    assert "pip install 'lat-search[report]'" in err
    write_or_notice(run_folder)
    assert "no report" in capsys.readouterr().err
    assert not (run_folder / "report.html").exists()


def test_no_browser_is_opened_where_there_is_no_desktop(invoke, run_folder, monkeypatch):
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


@needs_chromium
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_a_search_in_a_browser_shows_its_data_and_asks_for_nothing(run_folder, width, scheme):
    path = report.write_report(run_folder)
    with visit(path, width, scheme) as seen:
        assert seen.errors == []
        assert seen.requests == [path.as_uri()]
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
        assert seen.page.evaluate(CLIPPED) == []
        data = seen.page.evaluate(DATA)
        network = NetworkSpec.load(run_folder / "network.json")
        assert sum(data["operators"]) == len(network.ops)
        assert data["curves"][0] == STEPS
        counts = spaces.load("mini").counts
        assert data["probabilities"] == [10] * sum(counts)
        assert sum(data["tradeoff"]) == 2 + 3 + 1 + 1
        assert len(data["budget"]) == 4
        paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@needs_chromium
def test_a_table_in_a_browser_shows_each_row(kernels_csv, tmp_path):
    table = LatencyTable.load(kernels_csv)
    path = tmp_path / "table.html"
    report.write_page(report.table_page(table), path)
    for width, scheme in ((390, "light"), (1440, "dark")):
        with visit(path, width, scheme) as seen:
            assert seen.errors == []
            assert seen.requests == [path.as_uri()]
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
            assert seen.page.evaluate(CLIPPED) == []
            data = seen.page.evaluate(DATA)
            assert sum(data["spread"]) == len(table)
            assert sum(data["stages-mini-32"]) == 7


@needs_chromium
def test_on_paper_it_is_dark_on_white_even_where_the_screen_is_dark(run_folder):
    path = report.write_report(run_folder)
    with visit(path, 1440, "dark") as seen:
        seen.page.emulate_media(media="print")
        style = "getComputedStyle(document.querySelector('.chart svg text')).fill"
        assert seen.page.evaluate(style) == "rgb(29, 35, 41)"
        seen.page.set_viewport_size({"width": 700, "height": 900})
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 700
