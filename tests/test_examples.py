"""The examples run as another project would run them: elsewhere, with the installed library."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latency import LatencyTable, NetworkSpec, OpSpec

EXAMPLES = Path(__file__).parent.parent / "examples"
OTHER_METHODS = sorted(path for path in EXAMPLES.glob("*.py") if path.stem != "own_space")
SEARCHES = ("darts_softmax", "fbnet_gumbel", "evolution")


def run(folder, name: str, *words) -> list[str]:
    """Run an example in `folder`; the lines that it prints."""
    command = [sys.executable, EXAMPLES / f"{name}.py", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", OTHER_METHODS, ids=lambda path: path.stem)
def test_an_example_is_short_and_sees_the_library_only(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    assert re.search(r"^(from|import) (search|devices)\b", text, re.MULTILINE) is None


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_meets_its_budget_and_prints_what_it_found(tmp_path, name):
    lines = run(tmp_path, name)
    predicted, budget = (float(ms) for ms in re.findall(r"([\d.]+) ms", lines[-1]))
    assert predicted <= budget
    ops = tuple(OpSpec.parse(line) for line in lines if re.match(r"\w+-\d+x\d+x\d+-", line))
    (table,) = re.findall(r'^TABLE = "(.+?)"', (EXAMPLES / f"{name}.py").read_text(), re.MULTILINE)
    ms = LatencyTable.load(table).predict(NetworkSpec.of("found", ops)).ms
    assert predicted == pytest.approx(ms, abs=1e-4)
    if name == "evolution":
        scored, first, last = re.fullmatch(
            r"(\d+) candidates in .* s, proxy ([\d.]+) at first, ([\d.]+)", lines[-2]
        ).groups()
        assert int(scored) >= 1_000_000
        assert float(last) > float(first)
    if name == "fbnet_gumbel":
        samples, start = (float(ms) for ms in re.findall(r"([\d.]+) ms", lines[-2]))
        assert samples < start  # the latency in the loss moved the distribution


def test_the_pareto_front_of_optuna_is_what_no_trial_dominates(tmp_path):
    pytest.importorskip("optuna")
    lines = run(tmp_path, "optuna_pareto", "front.html")
    ms, _, share = np.array([line.split()[1:4] for line in lines]).T
    ms, share = ms.astype(float), share.astype(float)
    no_worse = (ms[:, None] <= ms) & (share[:, None] >= share)
    better = (ms[:, None] < ms) | (share[:, None] > share)
    dominated = (no_worse & better).any(0)
    assert [line.endswith("*") for line in lines] == (~dominated).tolist()
    assert share.max() > 0.5  # of ten classes: the networks learned
    assert "plotly" in (tmp_path / "front.html").read_text()


@pytest.mark.parametrize("path", sorted((EXAMPLES.parent / "lut_data").glob("*.csv")), ids=str)
def test_pandas_alone_adds_up_what_the_table_predicts(tmp_path, path):
    table = LatencyTable.load(path)
    names: dict = {"__name__": "example"}
    exec((EXAMPLES / "read_with_pandas.py").read_text(), names)
    ops = tuple(OpSpec(*row) for row in names["NETWORK"])
    if table.missing(ops):
        pytest.skip("a table of other operators")
    alone = "import runpy, sys; sys.modules['latency'] = None; runpy.run_path(sys.argv.pop(1), "
    alone += "run_name='__main__')"
    command = [sys.executable, "-W", "error", "-c", alone, EXAMPLES / "read_with_pandas.py", path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    total = float(re.search(r"^sum ([\d.]+) ms$", done.stdout, re.MULTILINE)[1])
    assert total == pytest.approx(table.predict(NetworkSpec.of("network", ops)).ms, abs=1e-8)


def test_pandas_alone_names_operators_that_a_table_lacks(tmp_path):
    (path,) = (EXAMPLES.parent / "lut_data").glob("*family-25*onnxruntime*.csv")
    lines = path.read_text().splitlines(keepends=True)
    (tmp_path / "holed.csv").write_text("".join(x for x in lines if not x.startswith("linear,1")))
    command = [sys.executable, EXAMPLES / "read_with_pandas.py", tmp_path / "holed.csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"lacks\n.*\n *linear +1 +1 +256", done.stderr)
