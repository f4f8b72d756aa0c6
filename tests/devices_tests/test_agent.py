"""The agent alone: what ends its process, what a captured graph keeps, which GPU it watches."""

import gc
import json
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest

from devices import agent

FAULTY = """
import sys
from devices import agent

class Faulty:
    version, build, accelerator, traces = "faulty 1", "", None, False
    def __init__(self, threads):
        pass
    def load(self, path):
        raise RuntimeError(path)

agent.RUNTIMES["faulty"] = Faulty
agent.main()
"""


def answers(*paths):
    """What an agent says that is asked to load models whose errors these are, and its end."""
    asked = [{"do": "hello", "runtime": "faulty", "affinity": [], "threads": 1}]
    asked += [{"do": "load", "path": path} for path in paths]
    lines = "".join(json.dumps({**one, "id": i}) + "\n" for i, one in enumerate(asked))
    words = [sys.executable, "-c", FAULTY]
    done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()[1:]], done


def test_an_error_of_a_model_is_answered_and_one_of_the_gpu_ends_the_process():
    said, done = answers("no such layer", "CUDA error: an illegal memory access", "never asked")
    assert [one["error"] for one in said] == ["RuntimeError: no such layer"]
    assert done.returncode == 1
    assert done.stderr.strip().endswith("RuntimeError: CUDA error: an illegal memory access")


@pytest.mark.parametrize(
    ("said", "fatal"),
    [
        ("OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True),
        ("Fail: CUDA failure 700: an illegal memory access was encountered", True),
        ("ValueError: an axis is too large", False),
    ],
)
def test_what_a_fresh_process_may_do_better_is_fatal(said, fatal):
    assert agent.is_fatal(said) is fatal


def test_a_captured_graph_keeps_what_it_reads_and_writes():
    class Weights:
        pass

    weights, runs = Weights(), []
    kept = weakref.ref(weights)
    replay = agent.Replay(SimpleNamespace(replay=lambda: runs.append(1)), (weights,))
    del weights
    gc.collect()
    replay()
    assert runs == [1]
    assert kept() is not None


def test_float32_is_float32_and_tensorrt_builds_half_where_it_is_asked_for():
    (name, options), cpu = agent.onnx_runtime_providers("cuda", half=False)
    assert (name, options) == ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert cpu == ("CPUExecutionProvider", {})
    first, *rest = agent.onnx_runtime_providers("tensorrt", half=True)
    assert first == ("TensorrtExecutionProvider", {"trt_fp16_enable": "1"})
    assert [name for name, _ in rest] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert agent.onnx_runtime_providers("cpu", half=False) == [("CPUExecutionProvider", {})]


@pytest.mark.parametrize(
    ("visible", "gpu"),
    [(None, 0), ("", 0), ("2,0", 2), ("GPU-12ab", "GPU-12ab"), ("MIG-7,0", "MIG-7")],
)
def test_the_gpu_that_is_watched_is_the_one_that_is_seen_first(monkeypatch, visible, gpu):
    nvml = SimpleNamespace(
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetName=lambda handle: f"GPU {handle}".encode(),
        nvmlDeviceGetTemperature=lambda handle, _: 40,
        nvmlDeviceGetClockInfo=lambda handle, _: 1000,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert agent.nvml_gpu() == (nvml, gpu)
    assert agent.nvidia_name() == f"GPU {gpu}"
    assert agent.nvml_state() == {"temperature_c": 40, "frequency_mhz": 1000}
