"""ONNX Runtime on the device."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devices.agent.machine import nvidia_name
from devices.agent.timing import LoadedModel, UnableError, timed, typical

LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


class OnnxRuntime:
    """ONNX Runtime, with inputs and outputs bound once. The model's outputs are computed on the
    provider and stay there."""

    def __init__(self, threads: int, graph_optimization: str, provider: str, half: bool) -> None:
        if provider != "cpu" and not half:
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no option of its own
        import onnxruntime

        self.library: Any = onnxruntime
        self.version = "onnxruntime " + onnxruntime.__version__
        self.build = onnxruntime.get_build_info()
        self.accelerator = nvidia_name() if provider != "cpu" else None
        self.memory = "cpu" if provider == "cpu" else "cuda"
        self.providers = providers(provider, half)
        self.provider = self.providers[0][0]
        if self.provider not in onnxruntime.get_available_providers():
            raise UnableError(
                f"this onnxruntime has no {self.provider}; "
                "install one that has: pip install onnxruntime-gpu"
            )
        if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries may be packages of pip's
        self.threads = threads
        self.level = LEVELS[graph_optimization]
        self.traces = provider == "cpu"  # elsewhere its profile tells launches, not kernels

    def options(self) -> Any:
        """Those of a session."""
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        level = getattr(self.library.GraphOptimizationLevel, self.level)
        options.graph_optimization_level = level
        return options

    def load(self, path: str) -> LoadedModel:
        """Load a model. Raises what the library does, and `UnableError` where the provider is not
        the one that is asked for."""
        return LoadedModel(timed(self.bound(path, self.options())[1]))

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, float]:
        """ns of each node of a run, by its name."""
        with tempfile.TemporaryDirectory(prefix="lat-trace-") as folder:
            options = self.options()
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(folder, "profile")
            session, execute = self.bound(path, options)
            for _ in range(warmup + runs):
                execute()
            with open(session.end_profiling()) as file:
                events = json.load(file)
        return traced_nodes(events, warmup, runs)

    def bound(self, path: str, options: Any) -> tuple[Any, Callable[[], object]]:
        """A session with its inputs and outputs bound, and a function that runs it once."""
        import numpy as np

        session = self.library.InferenceSession(path, options, providers=self.providers)
        if session.get_providers()[0] != self.provider:
            raise UnableError(f"{self.provider} could not be started on this machine")
        binding = session.io_binding()
        generator = np.random.default_rng(0)
        place = self.library.OrtValue.ortvalue_from_numpy
        for tensor in session.get_inputs():
            kind = np.float16 if "float16" in tensor.type else np.float32
            value = generator.standard_normal(tensor.shape, dtype=np.float32).astype(kind)
            binding.bind_ortvalue_input(tensor.name, place(value, self.memory, 0))
        for tensor in session.get_outputs():
            kind = np.float16 if "float16" in tensor.type else np.float32
            buffer = np.zeros(tensor.shape, kind)
            binding.bind_ortvalue_output(tensor.name, place(buffer, self.memory, 0))
        if self.memory == "cpu":
            return session, lambda: session.run_with_iobinding(binding)

        def execute() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return session, execute


def providers(provider: str, half: bool) -> list[tuple[str, dict[str, str]]]:
    """The provider, and those that take what it lacks, with their options. Float32 is float32: no
    TF32."""
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    tensorrt = ("TensorrtExecutionProvider", {"trt_fp16_enable": "1" if half else "0"})
    first: list[tuple[str, dict[str, str]]]
    first = {"cpu": [], "cuda": [cuda], "tensorrt": [tensorrt, cuda]}[provider]
    return [*first, ("CPUExecutionProvider", {})]


def traced_nodes(events: Sequence[Mapping[str, Any]], warmup: int, runs: int) -> dict[str, float]:
    """Node name -> ns of a run, of the events of an ONNX Runtime profile."""
    ending = "_kernel_time"
    nodes = [
        (event["name"][: -len(ending)], event["dur"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(ending)
    ]
    a_run, rest = divmod(len(nodes), warmup + runs)
    if rest or not a_run:
        raise ValueError(f"{warmup + runs} runs left {len(nodes)} nodes in the profile")
    times: dict[str, list[float]] = {}
    for start in range(warmup * a_run, len(nodes), a_run):
        run: dict[str, float] = {}
        for name, microseconds in nodes[start : start + a_run]:
            # Durations are cut to whole microseconds, half a one on average.
            run[name] = run.get(name, 0.0) + 1e3 * (microseconds + 0.5)
        for name, ns in run.items():
            times.setdefault(name, []).append(ns)
    return {name: typical(ns) for name, ns in times.items()}
