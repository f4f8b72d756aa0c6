"""The agent as it is sent: one file, with all that it needs, and the same for the same sources."""

import ast
import json
import os
import subprocess
import sys
from io import BytesIO
from zipfile import ZipFile

import pytest

from devices import agent_archive as archive
from devices.agent import main
from devices.agent_device import hello
from devices.card import DeviceCard
from devices.export.onnx_model import random_weights
from devices.runtimes.torch_eager import TorchEager
from latency import OpSpec

pytestmark = pytest.mark.identity
ON_EVERY_DEVICE = {"ai_edge_litert", "numpy", "onnxruntime", "pynvml"}
ONLY_WITH_TORCH = {"numpy", "torch"}
ANNOTATIONS = ("annotation", "returns")


@pytest.fixture
def sources():
    """What is in the archive, by its path there."""
    with ZipFile(BytesIO(archive.agent_archive())) as file:
        return {name: file.read(name).decode() for name in file.namelist()}


def imported(source):
    """Top-level names of what a module imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in names}


def is_for_torch(path):
    """Whether only the runtime that asks for a newer Python reads it."""
    return path.startswith("latency/") or path.endswith("torch_eager.py")


def test_the_same_sources_give_the_same_bytes():
    words = "import sys; from devices.agent_archive import agent_archive as made; "
    words += "sys.stdout.buffer.write(made())"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, env=environment)
    assert done.stdout == archive.agent_archive()


def test_the_archive_has_no_name_that_a_library_could_be_called_by(sources):
    assert {path.partition("/")[0] for path in sources} == {"__main__.py", "devices", "latency"}


def test_the_archive_has_nothing_but_what_the_agent_imports(sources):
    needed = {f"latency/{name}.py" for name in ("errors", "torch_layers", "operators/kinds")}
    assert needed < set(sources)
    assert not {f"latency/{name}.py" for name in ("tables/table", "predictors/regression")} & set(
        sources
    )
    assert sources["latency/__init__.py"] == ""
    ours = {path for path in sources if path.startswith("devices/")}
    assert all(path.startswith("devices/agent/") for path in ours - {"devices/__init__.py"})


def test_the_agent_imports_the_standard_library_numpy_and_its_runtime_alone(sources):
    for path, source in sources.items():
        others = imported(source) - sys.stdlib_module_names - {"devices", "latency"}
        assert others <= (ONLY_WITH_TORCH if is_for_torch(path) else ON_EVERY_DEVICE), path
        assert is_for_torch(path) or "latency" not in imported(source), path


def test_without_torch_the_agent_is_written_for_python_3_9(sources):
    for path, source in sources.items():
        if is_for_torch(path):
            continue
        tree = ast.parse(source, feature_version=(3, 9))
        written = [getattr(node, name, None) for node in ast.walk(tree) for name in ANNOTATIONS]
        annotations = {id(part) for one in written if one for part in ast.walk(one)}
        unions = {
            id(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        }
        assert unions <= annotations, f"{path}: `|` of types, executed"
        assert not annotations or "from __future__ import annotations\n" in source, path


def test_a_python_that_a_runtime_is_too_new_for_is_told(monkeypatch):
    monkeypatch.setattr(main, "OLDEST_FOR_TORCH", (9, 5))
    with pytest.raises(main.UnableError, match=r"torch needs Python 9\.5 or newer, this is .*3\."):
        main.start_runtime("torch", 1, {})


def test_the_archive_alone_runs_torch_whatever_else_is_called_latency(tmp_path):
    """Another version of ours on the device, broken here, is not taken for what was sent."""
    (tmp_path / "latency").mkdir()
    for name in ("latency/__init__.py", "devices.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')")
    path, model = tmp_path / "agent.pyz", tmp_path / "model.npz"
    path.write_bytes(archive.agent_archive())
    card = DeviceCard(name="x", runtime="torch")
    ops = [OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "relu6"), OpSpec("pool", 8, 8, 8, 8, 8)]
    model.write_bytes(TorchEager(card).build(ops, random_weights(), "n"))
    asked = [
        hello(card),
        {"do": "load", "path": str(model)},
        {"do": "run", "handle": 0, "warmup": 1, "runs": 3},
        {"do": "trace", "path": str(model), "warmup": 1, "runs": 3},
    ]
    lines = "".join(json.dumps({**one, "id": at}) + "\n" for at, one in enumerate(asked))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, str(path)]
    done = subprocess.run(words, input=lines, capture_output=True, text=True, env=environment)
    started, loaded, run, traced = (json.loads(line) for line in done.stdout.splitlines())
    assert started["runtime"].startswith("torch 2.")
    assert loaded["handle"] == 0
    assert len(run["ns"]) == 3
    assert [*traced["ns"]] == [
        f"{at}.{layer.name}" for at, op in enumerate(ops) for layer in op.layers
    ]
