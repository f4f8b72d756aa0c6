"""PyTorch on the device: the layers of `latency.torch_layers`, eager or as a CUDA graph."""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from devices.agent.timing import LoadedModel, TimeRuns, UnableError, timed, typical
from latency.operators.kinds import INPUT, OTHER, input_shapes
from latency.operators.spec import OpSpec
from latency.torch_layers import deployed

Inputs = Mapping[str, Tensor]
"""A model's inputs by name."""


class Step(NamedTuple):
    """A layer, with the names of its inputs and of its output."""

    inputs: tuple[str, ...]
    name: str
    execute: Callable[..., Tensor]


def keep_freed_memory() -> None:
    """Have malloc keep freed memory, as the allocators do that PyTorch's tuning guide names.
    Otherwise the system maps each large activation again, page by page, in every run."""
    most = 1 << 30
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold in (-1, -3):  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
            mallopt(threshold, most)


class Torch:
    """Executes the layers of a model file one by one, as an eager module does, or replays a
    captured CUDA graph."""

    SPIN_CYCLES_PER_RUN = 40000
    """GPU cycles (about 20 us) of waiting per queued run, so that launch gaps are not timed."""
    WARM_MS = 50.0
    traces = True

    def __init__(
        self,
        threads: int,
        provider: str,
        precision: str,
        channels_last: bool,
        cuda_graph: bool,
        **_: Any,
    ) -> None:
        self.version = "torch " + torch.__version__
        self.build = f"cuda {torch.version.cuda} cudnn {torch.backends.cudnn.version()}"
        if provider == "cpu":
            self.build = "mkldnn" if torch.backends.mkldnn.is_available() else "native"
        keep_freed_memory()
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.on_cuda = provider == "cuda"
        if self.on_cuda and not torch.cuda.is_available():
            raise UnableError("torch finds no CUDA device: check the GPU, and that torch has CUDA")
        self.device = "cuda" if self.on_cuda else "cpu"
        self.accelerator = torch.cuda.get_device_name() if self.on_cuda else None
        self.cuda_graph = cuda_graph and self.on_cuda
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        self.kind: torch.dtype = getattr(torch, "float32" if precision == "tf32" else precision)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.busy_at = 0

    def load(self, path: str) -> LoadedModel:
        """Load a model. Raises `SpecError` for an invalid operator."""
        before = torch.cuda.memory_allocated() if self.on_cuda else 0
        with torch.inference_mode():
            network, x = self.network(path)
            if not self.on_cuda:
                return LoadedModel(timed(torch.inference_mode()(lambda: network(x))))
            execute = self.on_stream(network, x)
            torch.cuda.synchronize()
        used = torch.cuda.max_memory_allocated() - before
        return LoadedModel(self.timed_by_events(execute), used)

    def trace(self, path: str, warmup: int, runs: int) -> dict[str, float]:
        """ns of each layer, launched one by one even if the model is measured as a graph."""
        with torch.inference_mode():
            steps, x = self.steps(path)
            if self.on_cuda:
                self.warm_clocks(lambda: self.marked(steps, x, lambda: None))
            times = [self.timed_steps(steps, x) for _ in range(warmup + runs)][warmup:]
        return {step.name: typical([run[at] for run in times]) for at, step in enumerate(steps)}

    def timed_steps(self, steps: list[Step], x: Inputs) -> list[float]:
        """ns of each step of one run; a step starts when the previous one ends."""
        if not self.on_cuda:
            marks = self.marked(steps, x, perf_counter_ns)
            return [end - start for start, end in pairwise(marks)]

        def mark() -> torch.cuda.Event:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event

        torch.cuda._sleep(self.SPIN_CYCLES_PER_RUN * (len(steps) + 1))
        marks = self.marked(steps, x, mark)
        torch.cuda.synchronize()
        return [start.elapsed_time(end) * 1e6 for start, end in pairwise(marks)]

    def marked(self, steps: list[Step], x: Inputs, mark: Callable[[], Any]) -> list[Any]:
        """Run the model once; returns marks from before the first step and after each."""
        values, marks = dict(x), [mark()]
        for inputs, name, execute in steps:
            values[name] = execute(*[values[source] for source in inputs])
            marks.append(mark())
        return marks

    def network(self, path: str) -> tuple[Callable[[Inputs], Tensor], Inputs]:
        """The model as a function, and its inputs."""
        steps, x = self.steps(path)

        def run(x: Inputs) -> Tensor:
            values = dict(x)
            for inputs, name, execute in steps:
                values[name] = execute(*[values[source] for source in inputs])
            return values[name]

        return run, x

    def steps(self, path: str) -> tuple[list[Step], Inputs]:
        """The model's layers in order of execution, and random inputs."""
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(bytes(file["network"]))
            weights = {name: torch.from_numpy(file[name]) for name in file.files if "." in name}
        ops = [OpSpec.parse(key) for key in header["operators"]]

        def placed(value: Tensor, layout: torch.memory_format) -> Tensor:
            layout = layout if value.dim() == 4 else torch.preserve_format
            return value.to(device=self.device, dtype=self.kind, memory_format=layout)

        weights = {name: placed(value, self.layout) for name, value in weights.items()}
        layout = torch.channels_last if header["channels_last"] else self.layout
        first = ops[0]
        x = {
            name: placed(torch.randn(first.batch, shape[2], *shape[:2]), layout)
            for name, shape in input_shapes(first).items()
        }
        return self.chained(ops, weights), x

    def chained(self, ops: list[OpSpec], weights: Mapping[str, Tensor]) -> list[Step]:
        """The layers of a chain of operators, named "position.layer"."""
        steps, current = [], INPUT
        for position, op in enumerate(ops):
            names = {INPUT: current, OTHER: OTHER}
            for layer in op.layers:
                current = names[layer.name] = f"{position}.{layer.name}"
                weight, bias = weights.get(current + ".weight"), weights.get(current + ".bias")
                inputs = tuple(names[source] for source in layer.inputs)
                steps.append(Step(inputs, current, deployed(layer, weight, bias, self.layout)))
        return steps

    def on_stream(self, network: Callable[[Inputs], Tensor], x: Inputs) -> Callable[[], object]:
        """A function that queues one run on the GPU: a graph replay, or the kernel launches."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                network(x)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.reset_peak_memory_stats()  # cuDNN's benchmark took more than a run does
        if not self.cuda_graph:
            network(x)
            return lambda: network(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = network(x)

        def replay(_kept: object = (network, x, output)) -> None:  # a graph keeps no tensors alive
            graph.replay()

        return replay

    def timed_by_events(self, execute: Callable[[], object]) -> TimeRuns:
        """Like `timed`, with CUDA events. The runs are queued behind a kernel that waits, so that
        the GPU never waits for the host between runs."""
        event = partial(torch.cuda.Event, enable_timing=True)

        @torch.inference_mode()
        def time_runs(warmup: int, runs: int) -> list[int]:
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

    def warm_clocks(self, execute: Callable[[], object]) -> None:
        """Keep the GPU busy until its clocks are up, if it was idle."""
        if perf_counter_ns() - self.busy_at > 20e6:
            start = perf_counter_ns()
            while perf_counter_ns() - start < self.WARM_MS * 1e6:
                execute()
                torch.cuda.synchronize()
        self.busy_at = perf_counter_ns()
