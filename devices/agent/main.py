"""Answers requests from standard input until it ends."""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, TextIO

from devices.agent.machine import cpu_state, facts, nvml_state, pin
from devices.agent.timing import LoadedModel, UnableError

FATAL = (
    "CUDA error",
    "CUDA failure",
    "CUDNN failure",
    "CUBLAS failure",
    "Failed to allocate memory for requested buffer",
    "Available memory",
)
"""In messages of PyTorch and ONNX Runtime: the GPU failed or is out of memory."""


RUNTIMES = {
    "onnxruntime": ("devices.agent.onnx_runtime", "OnnxRuntime", "onnxruntime"),
    "litert": ("devices.agent.lite_rt", "LiteRt", "ai-edge-litert"),
    "torch": ("devices.agent.torch_eager", "Torch", "torch"),
}
"""Module and class of each runtime, imported on demand, and the package that provides it. A runtime
has a `version`, a `build`, an `accelerator` (None on a CPU), and `load(path)`; if it `traces`, also
`trace(path, warmup, runs)`, which returns the ns of each node."""
OLDEST_FOR_TORCH = (3, 11)


def start_runtime(name: str, threads: int, settings: dict[str, Any]) -> Any:
    """Start one of `RUNTIMES`. Raises `UnableError` if Python is too old or a package is
    missing."""
    module, class_name, package = RUNTIMES[name]
    here = f"{sys.executable} (Python {platform.python_version()})"
    if name == "torch" and sys.version_info < OLDEST_FOR_TORCH:
        oldest = ".".join(map(str, OLDEST_FOR_TORCH))
        raise UnableError(
            f"the runtime torch needs Python {oldest} or newer, this is {here}; "
            "set `python` on the card to a newer one"
        )
    try:
        import numpy  # noqa: F401

        return getattr(import_module(module), class_name)(threads=threads, **settings)
    except ImportError as error:
        package = "numpy" if error.name == "numpy" else package
        raise UnableError(
            f"{error} for {here}; install it there: {sys.executable} -m pip install {package}"
        ) from None


class Agent:
    """Answers requests; holds the runtime and the loaded models."""

    def __init__(self) -> None:
        self.runtime: Any = None
        self.cpus: list[int] = []
        self.models: list[LoadedModel] = []

    def hello(
        self, runtime: str, affinity: Sequence[int] | None, threads: int, **settings: Any
    ) -> dict[str, Any]:
        """Pin the process, start the runtime and describe both."""
        self.cpus = pin(affinity, threads)
        self.runtime = start_runtime(runtime, threads, settings)
        return {
            "runtime": self.runtime.version,
            "build": self.runtime.build,
            "cpus": self.cpus,
            "traces": self.runtime.traces,
            "facts": {**facts(), "accelerator": self.runtime.accelerator},
        }

    def load(self, path: str) -> dict[str, Any]:
        """Load a model; returns the handle for `run`."""
        self.models.append(self.runtime.load(path))
        return {"handle": len(self.models) - 1}

    def run(self, handle: int, warmup: int, runs: int) -> dict[str, Any]:
        """Time a loaded model."""
        model = self.models[handle]
        return {"ns": model.time_runs(warmup, runs), "memory_bytes": model.memory_bytes}

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, Any]:
        """Time the nodes of a model."""
        return {"ns": self.runtime.trace(path, warmup, runs)}

    def state(self) -> dict[str, Any]:
        """Temperature and clock of the accelerator if there is one, else of the CPU."""
        if self.runtime and self.runtime.accelerator:
            return nvml_state()
        return cpu_state(self.cpus)


def is_fatal(message: str) -> bool:
    """Whether only a fresh process can tell if the model is at fault: after a GPU error nothing
    runs in this one, and GPU memory may be full of other models."""
    return message.startswith("OutOfMemoryError") or any(part in message for part in FATAL)


def main() -> None:
    """Answer every line of standard input with one line on standard output."""
    # Standard output is for answers only: what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    gc.disable()  # no collection during a timed run
    with suppress(BrokenPipeError):
        _answer(answers)
    if folder := os.environ.get("LAT_AGENT_FOLDER"):  # the host was killed
        shutil.rmtree(folder, ignore_errors=True)


def _answer(answers: TextIO) -> None:
    agent = Agent()
    for line in sys.stdin:
        request = json.loads(line)
        number, verb = request.pop("id"), request.pop("do")
        try:
            answer = getattr(agent, verb)(**request)
        except UnableError as error:
            answer = {"error": str(error)}
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if is_fatal(message):
                sys.exit(message)
            answer = {"error": message}
        answers.write(json.dumps(dict(answer, id=number)) + "\n")
