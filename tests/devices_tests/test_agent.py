"""The agent alone: what ends its process, what a captured graph keeps, which GPU it watches."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from devices.agent.machine import nvidia_name, nvml_gpu, nvml_state, pin
from devices.agent.main import is_fatal
from devices.agent.onnx_runtime import OnnxRuntime, providers
from devices.agent.timing import UnableError
from devices.transports.local import LocalTransport

pytestmark = pytest.mark.identity
FAULTY = """
import sys
from devices.agent import main

class Faulty:
    version, build, accelerator, traces = "faulty 1", "", None, False
    def __init__(self, threads):
        pass
    def load(self, path):
        raise RuntimeError(path)

main.RUNTIMES["faulty"] = ("__main__", "Faulty", "faulty")
main.main()
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
        ("RuntimeException: BFCArena: Failed to allocate memory for requested buffer of 9", True),
        ("RuntimeException: Available memory of 1 is smaller than requested bytes of 2", True),
        ("Fail: CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR", True),
        ("Fail: CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", True),
        ("ValueError: an axis is too large", False),
    ],
)
def test_what_a_fresh_process_may_do_better_is_fatal(said, fatal):
    assert is_fatal(said) is fatal


def runtime_found(transport_kind=LocalTransport):
    """The runtime that an agent on this machine finds, as it reports itself."""
    hello = {"do": "hello", "runtime": "onnxruntime", "threads": 1, "affinity": None}
    hello |= {"graph_optimization": "all", "provider": "cpu", "precision": "float32"}
    transport = transport_kind()
    channel = transport.start()
    try:
        return channel.ask(hello)["runtime"]
    finally:
        channel.close()
        transport.close()


def test_packages_that_a_user_has_installed_for_themselves_are_found(tmp_path, monkeypatch):
    python = getattr(sys, "_base_executable", sys.executable)
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path))
    where = [python, "-m", "site", "--user-site"]
    folder = Path(subprocess.run(where, capture_output=True, text=True).stdout.strip())
    folder.mkdir(parents=True)
    (folder / "numpy.py").touch()
    (folder / "onnxruntime.py").write_text(
        "__version__ = 'of a user'\n"
        "def get_build_info(): return ''\n"
        "def get_available_providers(): return ['CPUExecutionProvider']\n"
    )
    assert runtime_found() == "onnxruntime of a user"


def test_what_lies_beside_the_agent_is_never_taken_for_a_package(tmp_path, monkeypatch):
    class Cluttered(LocalTransport):
        def send(self, content, suffix):
            path = Path(super().send(content, suffix))
            path.with_name("numpy.py").write_text("raise SystemExit('not this one')")
            return str(path)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('not this one')")
    assert runtime_found(Cluttered).startswith("onnxruntime 1.")


@pytest.mark.parametrize(
    ("provider", "precision", "said"),
    [
        ("tensorrt", "float32", "0"),
        ("cuda", "float32", "0"),
        ("tensorrt", "float16", "as it was"),
    ],
)
def test_float32_on_a_gpu_is_no_tf32_in_any_library(monkeypatch, provider, precision, said):
    seen = []
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "as it was")

    class Library:
        __version__ = "1"

        def __getattr__(self, name):
            seen.append(os.environ["NVIDIA_TF32_OVERRIDE"])
            return lambda: []

    monkeypatch.setitem(sys.modules, "onnxruntime", Library())
    with pytest.raises(UnableError):
        OnnxRuntime(1, "all", provider, precision)
    assert set(seen) == {said}


@pytest.mark.parametrize("cpus", [[9999], [0, 9999]])
def test_cpus_that_are_not_there_are_named_with_those_that_are(cpus):
    before = os.sched_getaffinity(0)
    try:
        with pytest.raises(UnableError, match=r"affinity: .*9999; there are .*\d"):
            pin(cpus, 1)
    finally:
        os.sched_setaffinity(0, before)


def test_float32_is_float32_and_tensorrt_builds_half_where_it_is_asked_for():
    (name, options), cpu = providers("cuda", half=False)
    assert (name, options) == ("CUDAExecutionProvider", {"use_tf32": "0"})
    assert cpu == ("CPUExecutionProvider", {})
    first, *rest = providers("tensorrt", half=True)
    assert first == ("TensorrtExecutionProvider", {"trt_fp16_enable": "1"})
    assert [name for name, _ in rest] == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert providers("cpu", half=False) == [("CPUExecutionProvider", {})]


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
    assert nvml_gpu() == (nvml, gpu)
    assert nvidia_name() == f"GPU {gpu}"
    assert nvml_state() == {"temperature_c": 40, "frequency_mhz": 1000}


def test_the_folder_of_a_killed_host_is_deleted():
    host = (
        "import sys\n"
        "from devices.transports.local import LocalTransport\n"
        "transport = LocalTransport()\n"
        "channel = transport.start()\n"
        "channel.ask({'do': 'state'})\n"
        "print(transport._folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        folder = Path(process.stdout.readline().strip())
        assert any(folder.iterdir())
        process.kill()
    deadline = time.monotonic() + 30
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
