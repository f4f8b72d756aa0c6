"""ONNX Runtime on the device."""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from devices.agent.machine import nvidia_name
from devices.agent.timing import LoadedModel, UnableError, timed, typical


class OnnxRuntime:
    """ONNX Runtime, with inputs and outputs bound once and kept on the provider's device."""

    def __init__(
        self, threads: int, graph_optimization: str, provider: str, precision: str, **_: Any
    ) -> None:
        half = precision == "float16"
        if provider != "cpu" and not half:
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no provider option
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
            onnxruntime.preload_dlls()  # CUDA's libraries may be pip packages
        self.threads = threads
        is_off = graph_optimization == "disabled"
        self.level = "ORT_DISABLE_ALL" if is_off else f"ORT_ENABLE_{graph_optimization.upper()}"
        self.traces = provider == "cpu"  # elsewhere the profile times launches, not kernels

    def options(self) -> Any:
        """Session options."""
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        levels = self.library.GraphOptimizationLevel
        options.graph_optimization_level = getattr(levels, self.level)
        return options

    def load(self, path: str) -> LoadedModel:
        """Load a model. Raises `UnableError` if the provider cannot be used."""
        return LoadedModel(timed(self.bound(path, self.options())[1]))

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, float]:
        """ns of each node, by name."""
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
        to_device = self.library.OrtValue.ortvalue_from_numpy
        for tensor in session.get_inputs():
            kind = np.float16 if "float16" in tensor.type else np.float32
            value = generator.standard_normal(tensor.shape, dtype=np.float32).astype(kind)
            binding.bind_ortvalue_input(tensor.name, to_device(value, self.memory, 0))
        for tensor in session.get_outputs():
            kind = np.float16 if "float16" in tensor.type else np.float32
            buffer = to_device(np.zeros(tensor.shape, kind), self.memory, 0)
            binding.bind_ortvalue_output(tensor.name, buffer)
        if self.memory == "cpu":
            return session, lambda: session.run_with_iobinding(binding)

        def execute() -> None:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return session, execute


def providers(provider: str, half: bool) -> list[tuple[str, dict[str, str]]]:
    """The provider and its fallbacks, with their options. TF32 is off in float32."""
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    tensorrt = ("TensorrtExecutionProvider", {"trt_fp16_enable": "1" if half else "0"})
    first: list[tuple[str, dict[str, str]]]
    first = {"cpu": [], "cuda": [cuda], "tensorrt": [tensorrt, cuda]}[provider]
    return [*first, ("CPUExecutionProvider", {})]


def traced_nodes(events: Sequence[Mapping[str, Any]], warmup: int, runs: int) -> dict[str, float]:
    """ns of each node by name, from the events of an ONNX Runtime profile."""
    ending = "_kernel_time"
    nodes = [
        (event["name"].removesuffix(ending), event["dur"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(ending)
    ]
    per_run, rest = divmod(len(nodes), warmup + runs)
    if rest or not per_run:
        raise ValueError(f"{warmup + runs} runs left {len(nodes)} nodes in the profile")
    times: dict[str, list[float]] = defaultdict(list)
    for start in range(warmup * per_run, len(nodes), per_run):
        run: dict[str, float] = defaultdict(float)
        for name, microseconds in nodes[start : start + per_run]:
            # Durations are truncated to whole microseconds, which removes 0.5 on average.
            run[name] += 1e3 * (microseconds + 0.5)
        for name, ns in run.items():
            times[name].append(ns)
    return {name: typical(ns) for name, ns in times.items()}
