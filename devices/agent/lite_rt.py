"""LiteRT on the device, and its profiler."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from types import ModuleType
from typing import Any

from devices.agent.timing import LoadedModel, UnableError, timed


class LiteRt:
    """LiteRT (or its predecessor tflite-runtime), with its default delegate XNNPACK."""

    accelerator: str | None = None

    def __init__(self, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter

            package = "ai-edge-litert"
        except ImportError:
            from tflite_runtime.interpreter import Interpreter

            package = "tflite-runtime"
        from importlib.metadata import version

        self.interpreter: Any = Interpreter
        self.threads = threads
        self.version = package + " " + version(package.replace("-", "_"))
        self.build = ""
        self.profiler = LiteRtProfiler.of(self.version, sys.modules[Interpreter.__module__])
        self.traces = self.profiler is not None

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, float]:
        """ns of each node of a run, by its type and name."""
        assert self.profiler is not None
        return node_times(self.profiler.profile(path, self.threads, warmup, runs))

    def load(self, path: str) -> LoadedModel:
        """Load a model and fill its inputs."""
        import numpy as np

        interpreter = self.interpreter(model_path=path, num_threads=self.threads)
        interpreter.allocate_tensors()
        generator = np.random.default_rng(0)
        for tensor in interpreter.get_input_details():
            if tensor["dtype"] == np.float32:
                value = generator.standard_normal(tensor["shape"], dtype=np.float32)
            else:
                value = generator.integers(-128, 128, tensor["shape"], dtype=tensor["dtype"])
            interpreter.set_tensor(tensor["index"], value)
        return LoadedModel(timed(interpreter.invoke))


class LiteRtProfiler:
    """LiteRT's profiler of operators, which its Python module leaves out, by the C interface of
    the library in the same package (headers litert/c/*.h in LiteRT's repository)."""

    SINCE = (2, 3)
    """The interface is as it is called here since this version."""
    CPU, WRITE = 1, 1
    """kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeWrite."""
    FIRST = ctypes.c_size_t(0)
    """Index of a model's only signature."""
    NOT_FREED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda text: None)
    """What is called with a text of ours that is needed no more."""

    @classmethod
    def of(cls, version: str, module: ModuleType) -> LiteRtProfiler | None:
        """That of the package with this module, None where it has none that is known."""
        found = re.match(r"ai-edge-litert (\d+)\.(\d+)", version)
        path = os.path.join(os.path.dirname(module.__file__ or ""), "libLiteRt.so")
        is_known = found is not None and tuple(map(int, found.groups())) >= cls.SINCE
        return cls(path) if is_known and os.path.exists(path) else None

    def __init__(self, path: str) -> None:
        self.path = path
        self.library: Any = None

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library; `UnableError` where it fails."""
        status = getattr(self.library, name)(*arguments)
        if status:
            raise UnableError(f"LiteRT's profiler does not work here: {name} says {status}")

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """What a function hands out by its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def kept(
        self,
        held: contextlib.ExitStack,
        name: str,
        *arguments: Any,
        destroyed_as: str | None = None,
    ) -> ctypes.c_void_p:
        """What LiteRtCreate... makes, destroyed when `held` closes."""
        made = self.new("LiteRtCreate" + name, *arguments)
        held.callback(getattr(self.library, "LiteRtDestroy" + (destroyed_as or name)), made)
        return made

    def profile(self, path: str, threads: int, warmup: int, runs: int) -> str:
        """What the profiler prints after `runs` runs."""
        self.library = self.library or ctypes.CDLL(self.path)
        with contextlib.ExitStack() as held:
            environment = self.kept(held, "Environment", 0, None)
            model = self.kept(
                held, "ModelFromFile", environment, path.encode(), destroyed_as="Model"
            )
            options = self.options(held, threads)
            compiled = self.kept(held, "CompiledModel", environment, model, options)
            signature = self.new("LiteRtGetModelSignature", model, self.FIRST)
            arguments: list[Any] = [compiled, self.FIRST]
            for side in ("Input", "Output"):
                count = ctypes.c_size_t()
                self.call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
                buffers = (ctypes.c_void_p * count.value)()
                for i in range(count.value):
                    buffers[i] = self.buffer(held, environment, compiled, signature, side, i)
                arguments += [count, buffers]
            for buffer in arguments[3]:
                self.fill(ctypes.c_void_p(buffer))
            time_runs = timed(lambda: self.call("LiteRtRunCompiledModel", *arguments))
            time_runs(warmup, 0)
            profiler = self.new("LiteRtCompiledModelGetProfiler", compiled)
            self.call("LiteRtStartProfiler", profiler)
            time_runs(runs, 0)
            self.call("LiteRtStopProfiler", profiler)
            printed = self.new("LiteRtGetProfileSummary", profiler, compiled)
            return ctypes.string_at(printed).decode(errors="replace")

    def options(self, held: contextlib.ExitStack, threads: int) -> ctypes.c_void_p:
        """How a model is compiled: for the CPU, with a profiler."""
        options = self.kept(held, "Options")
        self.call("LiteRtSetOptionsHardwareAccelerators", options, self.CPU)
        self.texts = {  # kept, as they are read when the model is compiled
            b"runtime_options_string": b"enable_profiling = true",
            b"xnnpack": b"num_threads = %d" % threads,
        }
        for kind, text in self.texts.items():
            some = self.new("LiteRtCreateOpaqueOptions", kind, text, self.NOT_FREED)
            self.call("LiteRtAddOpaqueOptions", options, some)
        return options

    def buffer(
        self,
        held: contextlib.ExitStack,
        environment: ctypes.c_void_p,
        compiled: ctypes.c_void_p,
        signature: ctypes.c_void_p,
        side: str,
        index: int,
    ) -> int | None:
        """A buffer for an input or output of a model."""
        at = ctypes.c_size_t(index)
        tensor = self.new(f"LiteRtGetSignature{side}TensorByIndex", signature, at)
        kind = ctypes.create_string_buffer(1024)  # LiteRtRankedTensorType, and room
        self.call("LiteRtGetRankedTensorType", tensor, kind)
        asked = f"LiteRtGetCompiledModel{side}BufferRequirements"
        needs = self.new(asked, compiled, self.FIRST, at)
        made = "ManagedTensorBufferFromRequirements"
        return self.kept(held, made, environment, kind, needs, destroyed_as="TensorBuffer").value

    def fill(self, buffer: ctypes.c_void_p) -> None:
        """Write ones, as float32 or as int8, into an input: no number that is slow to compute."""
        size = ctypes.c_size_t()
        self.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        memory = ctypes.c_void_p()
        self.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), self.WRITE)
        whole, rest = divmod(size.value, 4)
        ctypes.memmove(memory, b"\0\0\x80\x3f" * whole + b"\0" * rest, size.value)
        self.call("LiteRtUnlockTensorBuffer", buffer)


def node_times(printed: str) -> dict[str, float]:
    """ns of each node of a run, by "type name", in order of execution, from what TensorFlow
    Lite's profiler prints: a table headed [node type] ... [avg ms] ... [%] ... [Name]."""
    lines = iter(printed.rpartition("Operator-wise Profiling Info")[2].splitlines())
    heading = next((re.findall(r"\[[^]]+\]", line) for line in lines if "[Name]" in line), [])
    if not {"[avg ms]", "[%]"} <= set(heading):
        raise ValueError("no table of profiled nodes")
    columns = heading.index("[avg ms]") - 1, heading.index("[%]") - 1
    row = re.compile(r"\s*(\S.*?)\s+((?:[\d.]+%?\s+){" + str(len(heading) - 2) + r"})(\S.*)")
    nodes: dict[str, tuple[float, float]] = {}
    for line in lines:
        found = row.fullmatch(line.rstrip())
        if not found:
            break
        cells = found[2].split()
        ms, share = (float(cells[at].rstrip("%")) for at in columns)
        nodes.setdefault(f"{found[1]} {found[3]}", (share, ms))
    if not nodes:
        raise ValueError("a table of no profiled nodes")
    share, ms = max(nodes.values())
    ns_per_share = 1e6 * ms / share if share > 0 else 0.0
    # Shares are finer than times. Durations are cut to whole microseconds, half of one on average:
    # on a fast device, nodes that took less are all printed as 0.
    return {name: ns_per_share * part + 500 for name, (part, _) in nodes.items()}
