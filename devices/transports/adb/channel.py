"""`BenchmarkChannel`: answers the requests of `devices.agent` by running `benchmark_model`.

No process stays on the phone: each `run` starts a new one, which loads the model, warms up and
times it. The first `run` of a model finds how many warm-up runs it needs.
"""

import shlex
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from devices.agent.lite_rt import node_times
from devices.transports.adb.facts import PhoneFacts, read_state
from devices.transports.adb.output import Report, read_report
from devices.transports.adb.phones import Phone, last_line
from latency.errors import ConnectionLostError, DeviceError, WorkloadError

Read = TypeVar("Read")

TOOL = (
    "the native benchmark binary of TensorFlow Lite's page 'Performance measurement' "
    "(android_aarch64), or your build of tensorflow/lite/tools/benchmark:benchmark_model"
)
_MAX_WARMUP_RUNS = 64
_MAX_WARMUP_SECONDS = 5.0
_MIN_WARMUP_SECONDS = 0.05
"""How long a governor takes to raise the clock of an idle core."""
_MIN_JUDGED_RUNS = 5
"""Timed runs needed to tell whether a model is warm."""
_MAX_SECONDS = 60
"""benchmark_model's limit for its warm-up, and for its timed runs."""

_NOT_OF_THE_MODEL = (
    127,
    *(128 + s for s in (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)),
)
"""Exit codes that no model causes: the binary is gone, or killed by another program."""


@dataclass
class BenchmarkChannel:
    """A session on a phone, with `benchmark_model` at `path`. `runtime`: its version.

    `warm`: model path to the warm-up runs it needs; shared between sessions. `prepare` is called
    before each use of a model, and `end` at `close`, with whether a run was interrupted.
    """

    phone: Phone
    facts: PhoneFacts
    runtime: str
    path: str
    cpu_mask: str | None
    run_seconds: float
    warm: dict[str, int]
    prepare: Callable[[], None]
    end: Callable[[bool], None]
    _models: list[str] = field(default_factory=list)
    _threads: int = 1
    _cpus: tuple[int, ...] = ()
    _is_running: bool = False

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request (see `devices.device.Channel`)."""
        return getattr(self, f"_{request['do']}")(request)

    def close(self) -> None:
        """End the session."""
        self.end(self._is_running)

    def _hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._threads = request["threads"]
        self._cpus = self._selected_cpus(request["affinity"])
        return {
            "runtime": self.runtime,
            "build": f"cores {self._mask}" if self._cpus else "not pinned: no core shows its clock",
            "resident": False,
            "traces": True,
            "cpus": list(self._cpus),
            "facts": self.facts.as_dict,
        }

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path = request["path"]
        self.prepare()
        if self.phone.shell(f"[ -f {shlex.quote(path)} ]").returncode != 0:
            raise WorkloadError(f"{self.phone}: the model {path} is not there any more")
        self._models.append(path)
        return {"handle": len(self._models) - 1}

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path = self._models[request["handle"]]
        known = self.warm.get(path, 0)
        warmup = max(1, request["warmup"], known)
        runs = request["runs"] if known else max(request["runs"], _MIN_JUDGED_RUNS)
        report = self._execute(read_report, path, warmup, runs)
        while not (known or self._suffices(report)):
            warmup = 2 * report.warmup.count
            report = self._execute(read_report, path, warmup, runs)
        self.warm[path] = warmup
        return {
            "ns": [report.timed.typical_us * 1000],
            "runs": report.timed.count,
            "memory_bytes": report.memory_bytes,
        }

    def _suffices(self, report: Report) -> bool:
        """Whether the model was warm, or twice the warm-up would take too long."""
        more = 2 * report.warmup.count
        seconds = more * report.timed.typical_us * 1e-6
        return report.is_warm or more > _MAX_WARMUP_RUNS or seconds > _MAX_WARMUP_SECONDS

    def _trace(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path = request["path"]
        self.prepare()
        warmup = max(request["warmup"], self.warm.get(path, 1))
        profiling = " --enable_op_profiling=true"
        return {"ns": self._execute(node_times, path, warmup, request["runs"], profiling)}

    def _state(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return {**read_state(self.phone, self._cpus)}

    def _execute(
        self, read: Callable[[str], Read], path: str, warmup: int, runs: int, flags: str = ""
    ) -> Read:
        """Run benchmark_model once; `read` parses what it prints, or raises `ValueError`."""
        pinned = f"taskset {self._mask} " if self._cpus else ""
        command = (
            f"exec {pinned}{shlex.quote(self.path)} {shlex.quote(f'--graph={path}')}"
            f" --num_threads={self._threads} --num_runs={runs} --min_secs=0"
            f" --warmup_runs={warmup} --warmup_min_secs={_MIN_WARMUP_SECONDS}"
            f" --max_secs={_MAX_SECONDS} --use_xnnpack=true{flags} 2>&1"
        )
        self._is_running = True
        result = self.phone.shell(command, self.run_seconds)
        self._is_running = False
        last, code = last_line(result), result.returncode
        failed = f"{self.phone}: benchmark_model failed (exit code {code}); its last line: {last}"
        if code == 126:
            raise DeviceError(
                f"{self.phone}: benchmark_model cannot be executed: {last}; the card must name the "
                f"one for its processor, and a `folder` that allows execution: {TOOL}"
            )
        if code in _NOT_OF_THE_MODEL:
            raise ConnectionLostError(failed)
        if code != 0:
            raise WorkloadError(failed)
        try:
            return read(result.output)
        except ValueError as error:
            raise ConnectionLostError(
                f"{self.phone}: cannot read the output of benchmark_model ({error}); "
                f"its last line: {last}"
            ) from None

    def _selected_cpus(self, affinity: Any) -> tuple[int, ...]:
        """The cores to run on: the card's, by default the big ones."""
        if self.cpu_mask is not None:
            mask = int(self.cpu_mask, 16)
            selected = [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]
        else:
            selected = list(affinity or self.facts.big_cores(self._threads))
        present = self.facts.max_khz
        if set(selected) - set(present):
            raise DeviceError(
                f"{self.phone}: its cores are {', '.join(map(str, present)) or 'not known'}, "
                f"and the card's cpu_mask or affinity asks for {', '.join(map(str, selected))}"
            )
        return tuple(selected)

    @property
    def _mask(self) -> str:
        return f"{sum(1 << cpu for cpu in self._cpus):x}"
