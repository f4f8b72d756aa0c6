"""The agent: goes to a device, loads models, times runs, and nothing else.

Self-contained: the standard library, numpy and the device's own runtime. Reads one JSON object
a line from standard input and answers each with one line on standard output:

    {"do": "hello", "runtime": "onnxruntime", "threads": 1, ...}  ->  {"runtime": "onnxruntime 1.3"}
    {"do": "load", "path": "/tmp/x.onnx"}                         ->  {"handle": 0}
    {"do": "run", "handle": 0, "warmup": 2, "runs": 10}           ->  {"ns": [201340, ...]}
    {"do": "close"}                                               ->  ends the process

A request that fails is answered with {"error": "..."}. The end of standard input ends it too, so
that no agent outlives its host.
"""

import json
import os
import sys
from time import perf_counter_ns
from typing import Any

import numpy as np

ONNX_RUNTIME_LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


class OnnxRuntime:
    """ONNX Runtime on the CPU, with inputs and outputs bound once."""

    def __init__(self, threads: int, graph_optimization: str) -> None:
        import onnxruntime

        self.library = onnxruntime
        self.version = f"onnxruntime {onnxruntime.__version__}"
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3
        level = getattr(onnxruntime.GraphOptimizationLevel, ONNX_RUNTIME_LEVELS[graph_optimization])
        self.options.graph_optimization_level = level

    def load(self, path: str):
        """A function without arguments that runs the model once."""
        session = self.library.InferenceSession(
            path, self.options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        generator = np.random.default_rng(0)
        for tensor in session.get_inputs():
            value = generator.standard_normal(tensor.shape, dtype=np.float32)
            binding.bind_ortvalue_input(
                tensor.name, self.library.OrtValue.ortvalue_from_numpy(value)
            )
        for tensor in session.get_outputs():
            buffer = np.empty(tensor.shape, np.float32)
            binding.bind_ortvalue_output(
                tensor.name, self.library.OrtValue.ortvalue_from_numpy(buffer)
            )
        return lambda: session.run_with_iobinding(binding)


RUNTIMES = {"onnxruntime": OnnxRuntime}


def pin(cpus) -> list[int]:
    """Run on these CPUs only, where the system lets a process choose; returns the CPUs in force."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    if cpus:
        os.sched_setaffinity(0, cpus)
    return sorted(os.sched_getaffinity(0))


class Agent:
    """Answers requests; holds the runtime and the loaded models."""

    def __init__(self) -> None:
        self.runtime: Any = None
        self.models: list = []

    def hello(self, runtime, affinity, **settings) -> dict:
        cpus = pin(affinity)
        self.runtime = RUNTIMES[runtime](**settings)
        return {"runtime": self.runtime.version, "cpus": cpus}

    def load(self, path) -> dict:
        self.models.append(self.runtime.load(path))
        return {"handle": len(self.models) - 1}

    def run(self, handle, warmup, runs) -> dict:
        execute = self.models[handle]
        for _ in range(warmup):
            execute()
        times = []
        for _ in range(runs):
            start = perf_counter_ns()
            execute()
            times.append(perf_counter_ns() - start)
        return {"ns": times}


def main() -> None:
    # Only answers go to standard output: whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    agent = Agent()
    verbs: dict[str, Any] = {"hello": agent.hello, "load": agent.load, "run": agent.run}
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        if verb == "close":
            break
        try:
            answer = verbs[verb](**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
