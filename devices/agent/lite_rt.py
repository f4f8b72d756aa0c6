"""LiteRT on the device, and its profiler."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from types import ModuleType
from typing import Any

from devices.agent.timing import LoadedModel, UnableError, timed


class LiteRt:
    """LiteRT, with its default delegate XNNPACK."""

    accelerator: str | None = None

    def __init__(self, threads: int, **_: Any) -> None:
        from importlib.metadata import version

        from ai_edge_litert import interpreter

        self.interpreter: Any = interpreter.Interpreter
        self.threads = threads
        number = version("ai_edge_litert")
        self.version = f"ai-edge-litert {number}"
        self.build = ""
        self.profiler = LiteRtProfiler.of(number, interpreter)
        self.traces = self.profiler is not None

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, float]:
        """ns of each node, by type and name."""
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
    """LiteRT's operator profiler, which its Python module does not expose, through the C API of
    the library in the same package (headers litert/c/*.h in LiteRT's repository)."""

    SINCE = (2, 3)
    """First version with this C API."""
    CPU, WRITE = 1, 1
    """kLiteRtHwAcceleratorCpu, kLiteRtTensorBufferLockModeWrite."""
    FIRST = ctypes.c_size_t(0)
    """Index of a model's only signature."""
    NOT_FREED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda text: None)
    """Destructor of a string that Python owns."""

    @classmethod
    def of(cls, version: str, module: ModuleType) -> LiteRtProfiler | None:
        """The profiler of the package with this module, None if it has none with a known API."""
        path = os.path.join(os.path.dirname(module.__file__ or ""), "libLiteRt.so")
        is_known = tuple(map(int, version.split(".")[:2])) >= cls.SINCE
        return cls(path) if is_known and os.path.exists(path) else None

    def __init__(self, path: str) -> None:
        self.path = path
        self.library: Any = None

    def call(self, name: str, *arguments: Any) -> None:
        """Call LiteRt<name>. Raises `UnableError` if it fails."""
        status = getattr(self.library, f"LiteRt{name}")(*arguments)
        if status:
            raise UnableError(f"LiteRT's profiler does not work here: LiteRt{name} says {status}")

    def new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """The pointer that a function returns through its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def kept(self, held: contextlib.ExitStack, name: str, *arguments: Any) -> ctypes.c_void_p:
        """The object that LiteRtCreate<name> makes, destroyed when `held` closes."""
        made = self.new(f"Create{name}", *arguments)
        kind = re.sub("^Managed|From.*", "", name)
        held.callback(getattr(self.library, f"LiteRtDestroy{kind}"), made)
        return made

    def profile(self, path: str, threads: int, warmup: int, runs: int) -> str:
        """The profiler's summary of `runs` runs, as text."""
        self.library = self.library or ctypes.CDLL(self.path)
        with contextlib.ExitStack() as held:
            environment = self.kept(held, "Environment", 0, None)
            model = self.kept(held, "ModelFromFile", environment, path.encode())
            options = self.options(held, threads)
            compiled = self.kept(held, "CompiledModel", environment, model, options)
            signature = self.new("GetModelSignature", model, self.FIRST)

            def buffer(side: str, index: int) -> int | None:
                at = ctypes.c_size_t(index)
                tensor = self.new(f"GetSignature{side}TensorByIndex", signature, at)
                kind = ctypes.create_string_buffer(1024)  # larger than a LiteRtRankedTensorType
                self.call("GetRankedTensorType", tensor, kind)
                requirements = f"GetCompiledModel{side}BufferRequirements"
                needs = self.new(requirements, compiled, self.FIRST, at)
                made = "ManagedTensorBufferFromRequirements"
                return self.kept(held, made, environment, kind, needs).value

            arguments: list[Any] = [compiled, self.FIRST]
            for side in ("Input", "Output"):
                count = ctypes.c_size_t()
                self.call(f"GetNumSignature{side}s", signature, ctypes.byref(count))
                buffers = [buffer(side, index) for index in range(count.value)]
                arguments += [count, (ctypes.c_void_p * count.value)(*buffers)]
            for pointer in arguments[3]:
                self.fill(ctypes.c_void_p(pointer))
            time_runs = timed(lambda: self.call("RunCompiledModel", *arguments))
            time_runs(warmup, 0)
            profiler = self.new("CompiledModelGetProfiler", compiled)
            self.call("StartProfiler", profiler)
            time_runs(runs, 0)
            self.call("StopProfiler", profiler)
            summary = self.new("GetProfileSummary", profiler, compiled)
            return ctypes.string_at(summary).decode(errors="replace")

    def options(self, held: contextlib.ExitStack, threads: int) -> ctypes.c_void_p:
        """Compile options: CPU, profiler on."""
        options = self.kept(held, "Options")
        self.call("SetOptionsHardwareAccelerators", options, self.CPU)
        self.texts = {  # attributes, because LiteRT reads them when it compiles the model
            b"runtime_options_string": b"enable_profiling = true",
            b"xnnpack": b"num_threads = %d" % threads,
        }
        for kind, text in self.texts.items():
            opaque = self.new("CreateOpaqueOptions", kind, text, self.NOT_FREED)
            self.call("AddOpaqueOptions", options, opaque)
        return options

    def fill(self, buffer: ctypes.c_void_p) -> None:
        """Fill an input with float32 ones: no denormals, and valid as int8."""
        size = ctypes.c_size_t()
        self.call("GetTensorBufferPackedSize", buffer, ctypes.byref(size))
        memory = ctypes.c_void_p()
        self.call("LockTensorBuffer", buffer, ctypes.byref(memory), self.WRITE)
        whole, rest = divmod(size.value, 4)
        ctypes.memmove(memory, b"\0\0\x80\x3f" * whole + b"\0" * rest, size.value)
        self.call("UnlockTensorBuffer", buffer)


def node_times(printed: str) -> dict[str, float]:
    """ns of each node by "type name", in order of execution, from the table that TensorFlow
    Lite's profiler prints under the header [node type] ... [avg ms] ... [%] ... [Name]."""
    lines = iter(printed.rpartition("Operator-wise Profiling Info")[2].splitlines())
    header = next((re.findall(r"\[[^]]+\]", line) for line in lines if "[Name]" in line), [])
    if not {"[avg ms]", "[%]"} <= set(header):
        raise ValueError("no table of profiled nodes")
    columns = header.index("[avg ms]") - 1, header.index("[%]") - 1
    row = re.compile(r"\s*(\S.*?)\s+((?:[\d.]+%?\s+){" + str(len(header) - 2) + r"})(\S.*)")
    nodes: dict[str, tuple[float, float]] = {}
    for line in lines:
        found = row.fullmatch(line.rstrip())
        if not found:
            break
        cells = found[2].split()
        ms, share = (float(cells[at].rstrip("%")) for at in columns)
        nodes.setdefault(f"{found[1]} {found[3]}", (share, ms))
    if not nodes:
        raise ValueError("an empty table of profiled nodes")
    share, ms = max(nodes.values())
    ns_per_share = 1e6 * ms / share if share > 0 else 0.0
    # Shares are finer than times. The profiler truncates to whole us, which removes 0.5 us on
    # average: on a fast device, shorter nodes are all printed as 0.
    return {name: ns_per_share * part + 500 for name, (part, _) in nodes.items()}
