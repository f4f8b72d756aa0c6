"""The documentation builds without a warning, and what its pages say to type works as written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pages import FILE, PROJECT, ROOT, Reader, blocks, in_no_time, pretend_cpu

from devices.export.onnx_model import onnx_model, random_weights
from latency import LatencyTable, OpSpec, zoo
from search import spaces

DOCS = ROOT / "docs"


@pytest.fixture
def desk(tmp_path, monkeypatch, at_once):
    """A folder to work in, on a machine whose CPU answers from a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    pretend_cpu()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so few steps are not worth sharing on a busy machine
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The pages as MkDocs builds them, every warning an error."""
    folder = tmp_path_factory.mktemp("site")
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_pages_are_built_with_help_figures_and_docstrings(site):
    commands = (site / "commands.html").read_text()
    assert "Measure every operator of a space on a device" in commands
    assert "<!-- help" not in commands
    figures = (site / "measuring.html").read_text()
    assert "cpu, proxyless@224: mean error" in figures
    assert "<!-- figures" not in figures
    keys = (site / "keys.html").read_text()
    assert "<!-- keys" not in keys
    assert "pause_seconds" in keys
    assert "arch_learning_rate" in keys
    library = (site / "api.html").read_text()
    assert "One row per operator" in library


def test_every_space_and_every_published_network_is_named():
    named = set(re.findall(r"`([\w-]+)`", (DOCS / "keys.md").read_text()))
    assert {*spaces.known(), *zoo.known()} <= named


def test_every_command_has_its_help_on_the_page_of_commands():
    page = (DOCS / "commands.md").read_text()
    assert all(f"<!-- help: {script} -->" in page for script in PROJECT["scripts"])


def test_every_figure_that_was_measured_is_on_a_page():
    measured = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    told = "".join(page.read_text() for page in DOCS.glob("*.md"))
    assert [name for name in measured if f"<!-- figures: {name} -->" not in told] == []


def test_a_promise_that_does_not_hold_has_a_word_on_why():
    measured = json.loads((ROOT / "benchmarks" / "results.json").read_text())
    told = "".join(page.read_text() for page in DOCS.glob("*.md"))
    for name, benchmark in measured.items():
        if not all(figure["holds"] for figure in benchmark["figures"]):
            below = told.partition(f"<!-- figures: {name} -->")[2].partition("<!--")[0]
            assert re.search("promises? .*not", below), name


def test_the_pages_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)', page.read_text()
        )
        assert fetched == [], page


def test_every_page_is_made_of_blocks_that_are_run_or_printed():
    for page in DOCS.glob("*.md"):
        assert {language for language, _ in blocks(page)} <= {"sh", "toml", "python", "text"}, page


def test_a_first_device_as_the_tutorial_says(desk):
    space = spaces.load("mini")
    model = onnx_model(space.network(space.largest).ops, random_weights(), "model")
    (desk / "model.onnx").write_bytes(model)
    reader = Reader(edit=in_no_time)
    reader.read(DOCS / "first-device.md")
    assert "cpu" in reader.said["lat-profile --list"]
    profiled = reader.said["lat-profile --device cpu --space mini"]
    assert "report: lat-report cpu" in profiled
    assert (desk / "runs" / "first" / "model.onnx").exists()
    table = LatencyTable.load("two-threads")
    assert table.setting.threads == 2
    assert table.transfers


def test_reuse_as_the_tutorial_says(desk, capsys):
    Reader().read(DOCS / "reuse.md")
    printed = capsys.readouterr().out
    assert "2 operators" in printed
    assert "predicted" in printed
    assert "torch.Size([2, 7])" in printed
    assert (desk / "cpu.yaml").exists()


def test_a_space_of_ones_own_as_the_tutorial_says(desk):
    page = DOCS / "own-space.md"
    ops: set[OpSpec] = set()
    for _, text in blocks(page):
        if named := FILE.match(text):
            (desk / named[1]).write_text(text)
            ops |= set(spaces.load(named[1]).operators)
    pretend_cpu(ops)
    reader = Reader()
    reader.read(page)
    assert "tiny" in reader.said["lat-search --target cpu --space tiny.toml --range"]
    assert (desk / "runs" / "tiny" / "result.json").exists()


@pytest.mark.parametrize("page", ["index.md"])
def test_other_pages_say_what_works(desk, page):
    Reader().read(DOCS / page)
