"""The size of files and functions, and what `latency` needs to be imported."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for name in ("latency", "devices", "search") for path in (ROOT / name).rglob("*.py")
)
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 50


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file, and their lines without the docstring."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES
    assert [name for name, lines in functions(path) if lines > MOST_LINES_OF_A_FUNCTION] == []


def test_all_but_expected_latency_works_without_torch():
    code = """
import importlib, pkgutil, sys
sys.modules["torch"] = None
import latency
for module in pkgutil.iter_modules(latency.__path__):
    if module.name not in ("expected", "modules", "torch_layers"):
        importlib.import_module(f"latency.{module.name}")
table = latency.LatencyTable.load(sys.argv[1])
ops = list(table)
costs = latency.candidate_latency(table, [[op, None] for op in ops])
assert costs.predict([[0] * len(ops)]) > costs.predict([[1] * len(ops)])
assert latency.fit(table).predict_op(ops[0]).ms > 0
"""
    path = next((ROOT / "lut_data").glob("*.csv"))
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
