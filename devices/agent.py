"""The agent: goes to a device, loads models, times runs, and nothing else.

Self-contained: the standard library, numpy and the device's own runtime; Python 3.9 or newer.
Reads one JSON object a line from standard input and answers each with one line on standard
output, with the request's `id` in it:

    {"do": "hello", "runtime": "onnxruntime", "threads": 1, ...}
        ->  {"runtime": "onnxruntime 1.32.0", "build": "...", "cpus": [1], "traces": true,
             "facts": {...}}
    {"do": "load", "path": "/tmp/x.onnx"}                  ->  {"handle": 0}
    {"do": "run", "handle": 0, "warmup": 2, "runs": 10}    ->  {"ns": [201340, ...]}
    {"do": "trace", "path": "/tmp/x.onnx", "warmup": 2, "runs": 10}
        ->  {"ns": {"0.conv.relu6_nchwc": 70210.5, "1.depthwise.relu6_nchwc": ..., ...}}
    {"do": "state"}                         ->  {"temperature_c": 41.5, "frequency_mhz": 2400.0}

`trace` loads the model once more and says what each of its nodes takes while the whole runs, by
the runtime's own profiler, in order of execution; a runtime without one says "traces": false.
A request that fails is answered with {"error": "..."}. The end of standard input ends it, so
that no agent outlives its host.
"""

import contextlib
import ctypes
import gc
import glob
import json
import os
import platform
import re
import sys
import tempfile
from time import perf_counter_ns
from typing import Any

ONNX_RUNTIME_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "torch": "torch"}
"""What to install where a runtime is absent."""
FATAL = (
    "CUDA error",
    "CUDA failure",
    "CUDNN failure",
    "CUBLAS failure",
    "Failed to allocate memory for requested buffer",
    "Available memory",
)
"""How PyTorch and ONNX Runtime begin to say that a GPU failed, or has no memory left."""


class UnableError(Exception):
    """What is asked for cannot be had here; the text says what would help."""


def timed(execute):
    """A function (warmup, runs) -> ns of each run, of a function that runs a model once."""

    def time_runs(warmup, runs):
        for _ in range(warmup):
            execute()
        times = []
        for _ in range(runs):
            start = perf_counter_ns()
            execute()
            times.append(perf_counter_ns() - start)
        return times

    return time_runs


def typical(times):
    """Mean of the middle half: no slow run moves it, and it is finer than the clock of a
    profiler that counts in microseconds."""
    ordered, quarter = sorted(times), len(times) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)


def keep_freed_memory():
    """Have the C library keep what is freed, as the allocators do that PyTorch's tuning guide
    names: else each large activation is mapped anew by the system, page by page, in every run."""
    most = 1 << 30
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(threshold, most)


class OnnxRuntime:
    """ONNX Runtime, with inputs and outputs bound once. The model's outputs are computed on the
    provider and stay there."""

    def __init__(self, threads, graph_optimization, provider, half):
        if provider != "cpu" and not half:
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT has no option of its own
        import onnxruntime

        self.library = onnxruntime
        self.version = "onnxruntime " + onnxruntime.__version__
        self.build = onnxruntime.get_build_info()
        self.accelerator = nvidia_name() if provider != "cpu" else None
        self.memory = "cpu" if provider == "cpu" else "cuda"
        self.providers = onnx_runtime_providers(provider, half)
        self.provider = self.providers[0][0]
        if self.provider not in onnxruntime.get_available_providers():
            raise UnableError(
                f"this onnxruntime has no {self.provider}; "
                "install one that has: pip install onnxruntime-gpu"
            )
        if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries may be packages of pip's
        self.threads = threads
        self.level = ONNX_RUNTIME_LEVELS[graph_optimization]
        self.traces = provider == "cpu"  # elsewhere its profile tells launches, not kernels

    def options(self):
        options = self.library.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        level = getattr(self.library.GraphOptimizationLevel, self.level)
        options.graph_optimization_level = level
        return options

    def load(self, path):
        return timed(self.bound(path, self.options())[1])

    def trace(self, path, warmup, runs):
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

    def bound(self, path, options):
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

        def execute():
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return session, execute


def onnx_runtime_providers(provider, half):
    """The provider, and those that take what it lacks, with their options. Float32 is float32: no
    TF32."""
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    tensorrt = ("TensorrtExecutionProvider", {"trt_fp16_enable": "1" if half else "0"})
    first = {"cpu": [], "cuda": [cuda], "tensorrt": [tensorrt, cuda]}[provider]
    return [*first, ("CPUExecutionProvider", {})]


def traced_nodes(events, warmup, runs):
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
    times: dict = {}
    for start in range(warmup * a_run, len(nodes), a_run):
        run: dict = {}
        for name, microseconds in nodes[start : start + a_run]:
            # Durations are cut to whole microseconds, half a one on average.
            run[name] = run.get(name, 0.0) + 1e3 * (microseconds + 0.5)
        for name, ns in run.items():
            times.setdefault(name, []).append(ns)
    return {name: typical(ns) for name, ns in times.items()}


class LiteRt:
    """LiteRT (or its predecessor tflite-runtime), with its default delegate XNNPACK."""

    accelerator = None

    def __init__(self, threads):
        try:
            from ai_edge_litert.interpreter import Interpreter

            package = "ai-edge-litert"
        except ImportError:
            from tflite_runtime.interpreter import Interpreter

            package = "tflite-runtime"
        from importlib.metadata import version

        self.interpreter = Interpreter
        self.threads = threads
        self.version = package + " " + version(package.replace("-", "_"))
        self.build = ""
        self.profiler = LiteRtProfiler.of(self.version, sys.modules[Interpreter.__module__])
        self.traces = self.profiler is not None

    def trace(self, path, warmup, runs):
        return node_times(self.profiler.profile(path, self.threads, warmup, runs))

    def load(self, path):
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
        return timed(interpreter.invoke)


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
    def of(cls, version, module):
        """That of the package with this module, None where it has none that is known."""
        found = re.match(r"ai-edge-litert (\d+)\.(\d+)", version)
        path = os.path.join(os.path.dirname(module.__file__), "libLiteRt.so")
        is_known = found is not None and tuple(map(int, found.groups())) >= cls.SINCE
        return cls(path) if is_known and os.path.exists(path) else None

    def __init__(self, path):
        self.path = path
        self.library: Any = None

    def call(self, name, *arguments):
        status = getattr(self.library, name)(*arguments)
        if status:
            raise UnableError(f"LiteRT's profiler does not work here: {name} says {status}")

    def new(self, name, *arguments):
        """What a function hands out by its last argument."""
        made = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def kept(self, held, name, *arguments, destroyed_as=None):
        """What LiteRtCreate... makes, destroyed when `held` closes."""
        made = self.new("LiteRtCreate" + name, *arguments)
        held.callback(getattr(self.library, "LiteRtDestroy" + (destroyed_as or name)), made)
        return made

    def profile(self, path, threads, warmup, runs):
        """What the profiler prints of so many runs."""
        self.library = self.library or ctypes.CDLL(self.path)
        with contextlib.ExitStack() as held:
            environment = self.kept(held, "Environment", 0, None)
            model = self.kept(
                held, "ModelFromFile", environment, path.encode(), destroyed_as="Model"
            )
            options = self.options(held, threads)
            compiled = self.kept(held, "CompiledModel", environment, model, options)
            signature = self.new("LiteRtGetModelSignature", model, self.FIRST)
            arguments = [compiled, self.FIRST]
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

    def options(self, held, threads):
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

    def buffer(self, held, environment, compiled, signature, side, index):
        """A buffer for an input or output of a model."""
        index = ctypes.c_size_t(index)
        tensor = self.new(f"LiteRtGetSignature{side}TensorByIndex", signature, index)
        kind = ctypes.create_string_buffer(1024)  # LiteRtRankedTensorType, and room
        self.call("LiteRtGetRankedTensorType", tensor, kind)
        needs = f"LiteRtGetCompiledModel{side}BufferRequirements"
        needs = self.new(needs, compiled, self.FIRST, index)
        made = "ManagedTensorBufferFromRequirements"
        return self.kept(held, made, environment, kind, needs, destroyed_as="TensorBuffer").value

    def fill(self, buffer):
        """Write ones, as float32 or as int8, into an input: no number that is slow to compute."""
        size = ctypes.c_size_t()
        self.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        memory = ctypes.c_void_p()
        self.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), self.WRITE)
        whole, rest = divmod(size.value, 4)
        ctypes.memmove(memory, b"\0\0\x80\x3f" * whole + b"\0" * rest, size.value)
        self.call("LiteRtUnlockTensorBuffer", buffer)


def node_times(printed):
    """ns of each node of a run, by "type name", in order of execution, from what TensorFlow
    Lite's profiler prints: a table headed [node type] ... [avg ms] ... [%] ... [Name]."""
    lines = iter(printed.rpartition("Operator-wise Profiling Info")[2].splitlines())
    heading = next((re.findall(r"\[[^]]+\]", line) for line in lines if "[Name]" in line), [])
    if not {"[avg ms]", "[%]"} <= set(heading):
        raise ValueError("no table of profiled nodes")
    columns = heading.index("[avg ms]") - 1, heading.index("[%]") - 1
    row = re.compile(r"\s*(\S.*?)\s+((?:[\d.]+%?\s+){" + str(len(heading) - 2) + r"})(\S.*)")
    nodes: dict = {}
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


class Torch:
    """PyTorch: the layers of a model file executed one by one, as an eager module executes
    them; on CUDA captured into a graph and replayed, where asked for."""

    SPIN_CYCLES_PER_RUN = 40000
    """So long (in cycles, about 20 us) the GPU is kept waiting for each run that is queued behind,
    so that the gaps between launches are not timed."""
    WARM_MS = 50.0
    traces = True

    def __init__(self, threads, provider, precision, channels_last, cuda_graph):
        import torch

        self.torch = torch
        self.version = "torch " + torch.__version__
        self.build = f"cuda {torch.version.cuda} cudnn {torch.backends.cudnn.version()}"
        if provider == "cpu":
            self.build = "mkldnn" if torch.backends.mkldnn.is_available() else "native"
        keep_freed_memory()
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.on_cuda = provider == "cuda"
        if self.on_cuda and not torch.cuda.is_available():
            raise UnableError("torch sees no CUDA device: is there a GPU, and a CUDA build of it?")
        self.device = "cuda" if self.on_cuda else "cpu"
        self.accelerator = torch.cuda.get_device_name() if self.on_cuda else None
        self.cuda_graph = cuda_graph and self.on_cuda
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.kind = getattr(torch, "float32" if precision == "tf32" else precision)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format

    def load(self, path):
        torch = self.torch
        before = torch.cuda.memory_allocated() if self.on_cuda else 0
        with torch.inference_mode():
            network, x = self.network(path)
            if not self.on_cuda:
                return timed(torch.inference_mode()(lambda: network(x)))
            execute = self.on_stream(network, x)
            torch.cuda.synchronize()
        time_runs = self.timed_by_events(execute)
        time_runs.memory_bytes = torch.cuda.max_memory_allocated() - before
        return time_runs

    def trace(self, path, warmup, runs):
        """The layers as they are launched one by one, also where they are measured as a graph."""
        torch = self.torch
        with torch.inference_mode():
            steps, x = self.steps(path)
            if self.on_cuda:
                self.warm_clocks(lambda: self.marked(steps, x, lambda: None))
            times = [self.timed_steps(steps, x) for _ in range(warmup + runs)][warmup:]
        return {
            name: typical([run[step] for run in times]) for step, (_, name, _) in enumerate(steps)
        }

    def timed_steps(self, steps, x):
        """ns of each step of one run; each begins where the one before it ends."""
        torch = self.torch
        if not self.on_cuda:
            marks = self.marked(steps, x, perf_counter_ns)
            return [marks[step + 1] - marks[step] for step in range(len(steps))]

        def mark():
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event

        torch.cuda._sleep(self.SPIN_CYCLES_PER_RUN * (len(steps) + 1))
        marks = self.marked(steps, x, mark)
        torch.cuda.synchronize()
        return [marks[step].elapsed_time(marks[step + 1]) * 1e6 for step in range(len(steps))]

    def marked(self, steps, x, mark):
        """Run the model once, with a mark before the first step and after each."""
        values, marks = dict(x), [mark()]
        for inputs, output, function in steps:
            values[output] = function(*[values[name] for name in inputs])
            marks.append(mark())
        return marks

    def network(self, path):
        """The model as a function, and its inputs by name."""
        steps, x = self.steps(path)

        def run(x):
            values = dict(x)
            for inputs, output, function in steps:
                values[output] = function(*[values[name] for name in inputs])
            return values[output]

        return run, x

    def steps(self, path):
        """The model's layers in order of execution, as `step` returns them, and its inputs."""
        import numpy as np

        torch = self.torch
        with np.load(path, allow_pickle=False) as file:
            described = json.loads(bytes(file["layers"]))
            weights = {name: torch.from_numpy(file[name]) for name in file.files if "." in name}
        place = {"device": self.device, "dtype": self.kind}
        weights = {
            name: value.to(**place, memory_format=self.layout)
            if value.dim() == 4
            else value.to(**place)
            for name, value in weights.items()
        }
        steps = [self.step(layer, weights) for layer in described["layers"]]
        layout = torch.channels_last if described["channels_last"] else self.layout
        x = {
            name: torch.randn(shape).to(**place, memory_format=layout)
            for name, shape in described["inputs"].items()
        }
        return steps, x

    def step(self, layer, weights):
        """(names of inputs, name of the output, function) of a layer."""
        torch = self.torch
        functional = torch.nn.functional
        kind, name = layer["kind"], layer["name"]
        weight, bias = weights.get(name + ".weight"), weights.get(name + ".bias")
        kernel, stride, channels = layer["kernel"], layer["stride"], layer["channels"]
        start = layer["start"]
        mean, variance = torch.zeros(channels), torch.ones(channels)
        if kind == "norm":
            mean, variance = mean.to(bias), variance.to(bias)
        core = {
            "conv": self.convolution(layer, weight, bias),
            "conv_transpose": self.transposed_convolution(layer, weight, bias),
            "linear": lambda x: functional.linear(x.flatten(1), weight, bias),
            "matmul": self.along_channels(lambda x: functional.linear(x, weight, bias)),
            "pool": lambda x: functional.avg_pool2d(x, kernel, stride),
            "max_pool": lambda x: functional.max_pool2d(x, kernel, stride, (kernel[0] - 1) // 2),
            "avg_pool": lambda x: functional.avg_pool2d(
                x, kernel, stride, (kernel[0] - 1) // 2, count_include_pad=False
            ),
            "add": torch.add,
            "multiply": torch.mul,
            "concat": lambda x, other: torch.cat((x, other), 1),
            "norm": lambda x: functional.batch_norm(x, mean, variance, weight, bias, eps=0.0),
            "layer_norm": self.along_channels(
                lambda x: functional.layer_norm(x, (channels,), weight, bias)
            ),
            "softmax": self.along_channels(lambda x: torch.softmax(x, -1)),
            "slice": lambda x: x[:, start : start + channels].clone(memory_format=self.layout),
            "pad": lambda x: functional.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])),
            "shuffle": lambda x: torch.channel_shuffle(x, layer["groups"]),
            "transpose": lambda x: x.permute(0, 2, 3, 1).clone(
                memory_format=torch.contiguous_format
            ),
            "resize": lambda x: functional.interpolate(x, scale_factor=stride),
            "identity": lambda x: x,
        }[kind]
        is_fresh = kind != "identity"  # what a layer has computed may be overwritten
        activation = {
            "none": None,
            "relu": torch.relu_ if is_fresh else torch.relu,
            "relu6": lambda x: (functional.hardtanh_ if is_fresh else functional.hardtanh)(
                x, 0.0, 6.0
            ),
            "h_swish": functional.hardswish,
            "h_sigmoid": functional.hardsigmoid,
            "silu": functional.silu,
            "sigmoid": torch.sigmoid,
            "gelu": functional.gelu,
        }[layer["activation"]]
        if activation is None:
            return layer["inputs"], name, core
        return layer["inputs"], name, lambda *inputs: activation(core(*inputs))

    def convolution(self, layer, weight, bias):
        torch = self.torch
        top, left, bottom, right = layer["padding"]
        rest = (layer["dilation"], layer["groups"])
        if (top, left) == (bottom, right):
            return lambda x: torch.conv2d(x, weight, bias, layer["stride"], (top, left), *rest)
        around = (left, right, top, bottom)
        pad = torch.nn.functional.pad
        return lambda x: torch.conv2d(pad(x, around), weight, bias, layer["stride"], 0, *rest)

    def transposed_convolution(self, layer, weight, bias):
        before, after = layer["trimming"]
        return lambda x: self.torch.conv_transpose2d(
            x, weight, bias, layer["stride"], before, before - after
        )

    def along_channels(self, function):
        """A function of channels last, for tensors that name the channels first."""
        return lambda x: function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def on_stream(self, network, x):
        """A function that queues one run on the GPU: the replay of a graph, or the launches."""
        torch = self.torch
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                network(x)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.reset_peak_memory_stats()  # trying algorithms took more than a run does
        if not self.cuda_graph:
            network(x)
            return lambda: network(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = network(x)
        return Replay(graph, (network, x, output))

    def timed_by_events(self, execute):
        """As `timed`, by CUDA events. The runs are queued behind a kernel that waits, so that the
        GPU goes from one to the next without waiting for the host."""
        torch = self.torch

        def event():
            return torch.cuda.Event(enable_timing=True)

        @torch.inference_mode()
        def time_runs(warmup, runs):
            self.warm_clocks(execute)
            for _ in range(warmup):
                execute()
            pairs = [(event(), event()) for _ in range(runs)]
            torch.cuda.synchronize()
            torch.cuda._sleep(self.SPIN_CYCLES_PER_RUN * runs)
            for start, end in pairs:
                start.record()
                execute()
                end.record()
            torch.cuda.synchronize()
            return [round(start.elapsed_time(end) * 1e6) for start, end in pairs]

        return time_runs

    def warm_clocks(self, execute):
        """Keep the GPU busy until its clocks are up, where it was idle."""
        if perf_counter_ns() - getattr(self, "busy_at", 0) > 20e6:
            start = perf_counter_ns()
            while perf_counter_ns() - start < self.WARM_MS * 1e6:
                execute()
                self.torch.cuda.synchronize()
        self.busy_at = perf_counter_ns()


class Replay:
    """A captured graph, and what it reads and writes, which it does not keep alive itself."""

    def __init__(self, graph, kept):
        self.graph = graph
        self.kept = kept

    def __call__(self):
        self.graph.replay()


RUNTIMES = {"onnxruntime": OnnxRuntime, "litert": LiteRt, "torch": Torch}


def pin(cpus, threads):
    """Run on these CPUs only, or where none are named on the last `threads` free ones (the first
    serve most interrupts); returns the CPUs in force, [] where the system has no say in it."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    free = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError, OverflowError):
        os.sched_setaffinity(0, cpus or free[-threads:])
    pinned = sorted(os.sched_getaffinity(0))
    if cpus and pinned != sorted(set(cpus)):
        raise UnableError(
            f"affinity: the card asks for the CPUs {', '.join(map(str, cpus))}; "
            f"there are {', '.join(map(str, free))}"
        )
    return pinned


def read(path):
    """A file's text, "" where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return ""


def facts():
    """What the host tells the hardware from."""
    return {
        "cpu_info": read("/proc/cpuinfo").split("\n\n")[0],
        "cpus": os.cpu_count() or 1,
        "machine": platform.processor() or platform.machine(),
        "board": read("/proc/device-tree/model"),
        "system": f"{platform.system()} {platform.release()}",
    }


def nvml_gpu():
    """NVML's module, and the GPU that this process sees first. Raises where there is none."""
    import pynvml

    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):
        return pynvml, pynvml.nvmlDeviceGetHandleByUUID(first)
    return pynvml, pynvml.nvmlDeviceGetHandleByIndex(int(first or 0))


def nvidia_name():
    """The GPU's name by NVML, else that of the first one by its driver."""
    try:
        pynvml, gpu = nvml_gpu()
        name = pynvml.nvmlDeviceGetName(gpu)
        return name.decode() if isinstance(name, bytes) else name
    except Exception:
        pass
    for path in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information")):
        for line in read(path).splitlines():
            key, _, value = line.partition(":")
            if key == "Model":
                return value.strip()
    return "NVIDIA GPU"


class Agent:
    """Answers requests; holds the runtime and the loaded models."""

    def __init__(self):
        self.runtime: Any = None
        self.cpus: list = []
        self.models: list = []

    def hello(self, runtime, affinity, threads, **settings):
        self.cpus = pin(affinity, threads)
        try:
            import numpy  # noqa: F401

            self.runtime = RUNTIMES[runtime](threads=threads, **settings)
        except ImportError as error:
            package = "numpy" if error.name == "numpy" else PACKAGES[runtime]
            raise UnableError(
                f"{error} for {sys.executable} (Python {platform.python_version()}); "
                f"install it there: {sys.executable} -m pip install {package}"
            ) from None
        known = facts()
        if self.runtime.accelerator:
            known["accelerator"] = self.runtime.accelerator
        return {
            "runtime": self.runtime.version,
            "build": self.runtime.build,
            "cpus": self.cpus,
            "traces": self.runtime.traces,
            "facts": known,
        }

    def load(self, path):
        self.models.append(self.runtime.load(path))
        return {"handle": len(self.models) - 1}

    def run(self, handle, warmup, runs):
        time_runs = self.models[handle]
        answer = {"ns": time_runs(warmup, runs)}
        if hasattr(time_runs, "memory_bytes"):
            answer["memory_bytes"] = time_runs.memory_bytes
        return answer

    def trace(self, path, warmup, runs):
        if not self.runtime.traces:
            raise UnableError(f"{self.runtime.version} offers no per-operator profile here")
        return {"ns": self.runtime.trace(path, warmup, runs)}

    def state(self):
        if self.runtime and self.runtime.accelerator:
            return nvml_state()
        zones = [read(path) for path in glob.glob("/sys/class/thermal/thermal_zone*/temp")]
        clocks = [
            read(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq") for cpu in self.cpus
        ]
        return {
            "temperature_c": max([int(t) / 1000 for t in zones if t.isdigit()], default=None),
            "frequency_mhz": min([int(c) / 1000 for c in clocks if c.isdigit()], default=None),
        }


def nvml_state():
    """The GPU's temperature and clock, where NVML's Python module is installed."""
    try:
        pynvml, gpu = nvml_gpu()
        return {
            "temperature_c": pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "frequency_mhz": pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
        }
    except Exception:
        return {"temperature_c": None, "frequency_mhz": None}


def is_fatal(said):
    """Whether an error may be the process's and not the model's, which a fresh process will tell:
    after a fault of a GPU nothing runs in it any more, and its memory is full of other models."""
    return said.startswith("OutOfMemoryError") or any(words in said for words in FATAL)


def forget_own_folder():
    """Have nothing beside this file be taken for a package: Python looks there first."""
    own = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != own]


def main():
    forget_own_folder()
    # Only answers go to standard output: whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    gc.disable()  # a collection in the middle of a timed run is not the model's
    agent = Agent()
    verbs: dict[str, Any] = {
        "hello": agent.hello,
        "load": agent.load,
        "run": agent.run,
        "trace": agent.trace,
        "state": agent.state,
    }
    for line in sys.stdin:
        request = json.loads(line)
        number, verb = request.pop("id"), request.pop("do")
        try:
            answer = verbs[verb](**request)
        except UnableError as error:
            answer = {"error": str(error)}
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if is_fatal(said):
                sys.exit(said)
            answer = {"error": said}
        answers.write(json.dumps(dict(answer, id=number)) + "\n")


if __name__ == "__main__":
    main()
