"""`BenchmarkChannel`: answers as `devices.agent` does, by running `benchmark_model` on a phone.

No process waits on the phone: each `run` is a fresh one, which loads the model, warms up and
times. How many warm-up runs a model needs is found at its first `run`, and kept by path in `warm`.
"""

import shlex
import signal
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from devices.agent.lite_rt import node_times
from devices.transports.adb.facts import PhoneFacts, read_state
from devices.transports.adb.output import Report, read_report
from devices.transports.adb.phone import Phone, Said
from devices.transports.adb.tool import BenchmarkTool
from latency.errors import ConnectionLostError, DeviceError, WorkloadError

Read = TypeVar("Read")

_MOST_WARMUP_RUNS = 64
_MOST_WARMUP_SECONDS = 5.0
_LEAST_WARMUP_SECONDS = 0.05
"""So long a governor takes to raise the clock of a core that was idle."""

_LEAST_JUDGED_RUNS = 5
"""So many timed runs at least say whether a model is warm."""

_FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
"""Signals that no model brings about."""

_MOST_SECONDS = 60
"""The tool ends its warm-up, and its timed runs, after so long."""


@dataclass(frozen=True)
class Installed:
    """A `benchmark_model` at a path on a phone, and what the phone is."""

    phone: Phone
    facts: PhoneFacts
    tool: BenchmarkTool
    path: str
    cpu_mask: str | None
    run_seconds: float

    def kill(self) -> None:
        """End what still runs of it there, left by a connection that was lost."""
        pattern = f"{self.path[:-1]}[{self.path[-1]}]"  # does not match the shell that asks
        self.phone.shell(f"pkill -9 -f {shlex.quote(pattern)}")


class BenchmarkChannel:
    """A session on a phone. `prepare` is called before the first model is loaded, and `end` at
    `close`, with whether a run was interrupted."""

    def __init__(
        self,
        installed: Installed,
        warm: MutableMapping[str, int],
        prepare: Callable[[], None],
        end: Callable[[bool], None],
    ) -> None:
        self._installed = installed
        self._warm = warm
        self._prepare = prepare
        self._end = end
        self._is_prepared = False
        self._paths: list[str] = []
        self._threads = 1
        self._flags = ""
        self._cpus: tuple[int, ...] = ()
        self._is_running = False

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request (see `devices.device.Channel`)."""
        verbs = {
            "hello": self._hello,
            "load": self._load,
            "run": self._run,
            "trace": self._trace,
            "state": self._state,
        }
        if request.get("do") not in verbs:
            raise DeviceError(f"a phone cannot {request.get('do')}")
        return verbs[request["do"]](request)

    def close(self) -> None:
        """End the session."""
        self._end(self._is_running)

    def _hello(self, request: Mapping[str, Any]) -> dict[str, Any]:
        facts, tool = self._installed.facts, self._installed.tool
        tool.check(facts.abis, self._where)
        self._threads = int(request["threads"])
        flags = request.get("flags") or {}
        self._flags = "".join(f" {shlex.quote(f'--{name}={flags[name]}')}" for name in flags)
        self._cpus = self._chosen_cpus(request.get("affinity")) if facts.has_taskset else ()
        return {
            "runtime": f"benchmark_model {tool.digest}",
            "build": ", ".join(filter(None, (tool.abi, self._pinning()))),
            "resident": False,
            "traces": True,
            "cpus": list(self._cpus),
            "facts": facts.as_dict,
        }

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path = str(request["path"])
        self._be_prepared()
        if self._installed.phone.shell(f"[ -f {shlex.quote(path)} ]").code != 0:
            raise WorkloadError(f"{self._where}: the model {path} is not there any more")
        self._paths.append(path)
        return {"handle": len(self._paths) - 1}

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path, runs = self._paths[request["handle"]], int(request["runs"])
        warmup = max(1, int(request["warmup"]))
        if path in self._warm:
            report = self._measure(path, max(warmup, self._warm[path]), runs)
        else:
            report = self._measure_until_warm(path, warmup, max(runs, _LEAST_JUDGED_RUNS))
        return {
            "ns": [round(report.timed.typical_us * 1000)],
            "runs": report.timed.count,
            "memory_bytes": report.memory_bytes,
        }

    def _trace(self, request: Mapping[str, Any]) -> dict[str, Any]:
        path = str(request["path"])
        self._be_prepared()
        warmup = max(int(request["warmup"]), self._warm.get(path, 1))
        said = self._execute(path, warmup, int(request["runs"]), " --enable_op_profiling=true")
        return {"ns": self._read(said, node_times)}

    def _state(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return read_state(self._installed.phone, self._cpus)

    def _be_prepared(self) -> None:
        if not self._is_prepared:
            self._prepare()
            self._is_prepared = True

    def _measure_until_warm(self, path: str, warmup: int, runs: int) -> Report:
        """Measure, with twice the warm-up each time, until it is enough; remembers how much."""
        while True:
            report = self._measure(path, warmup, runs)
            more = 2 * report.warmup.count
            seconds = more * report.timed.typical_us * 1e-6
            if report.is_warm or more > _MOST_WARMUP_RUNS or seconds > _MOST_WARMUP_SECONDS:
                self._warm[path] = warmup
                return report
            warmup = more

    def _measure(self, path: str, warmup: int, runs: int) -> Report:
        """Run the tool once."""
        return self._read(self._execute(path, warmup, runs), read_report)

    def _execute(self, path: str, warmup: int, runs: int, flags: str = "") -> Said:
        """Run the tool once; what it printed."""
        pinned = f"taskset {self._mask()} " if self._cpus else ""
        command = (
            f"exec {pinned}{shlex.quote(self._installed.path)} {shlex.quote(f'--graph={path}')}"
            f" --num_threads={self._threads} --num_runs={runs} --min_secs=0"
            f" --warmup_runs={warmup} --warmup_min_secs={_LEAST_WARMUP_SECONDS}"
            f" --max_secs={_MOST_SECONDS}{self._flags}{flags} 2>&1"
        )
        self._is_running = True
        said = self._installed.phone.shell(command, self._installed.run_seconds)
        self._is_running = False
        self._check(said)
        return said

    def _read(self, said: Said, read: Callable[[str], Read]) -> Read:
        try:
            return read(said.output)
        except ValueError as error:
            raise ConnectionLostError(
                f"{self._where}: benchmark_model does not print what it should ({error}); "
                f"its last line: {said.last_line}"
            ) from None

    def _check(self, said: Said) -> None:
        """Raise an error unless the tool ended well."""
        if said.code == 126:
            raise DeviceError(
                f"{self._where}: benchmark_model may not be executed in its folder: "
                f"{said.last_line}; give another `folder` in section [adb] of the card"
            )
        if said.code == 127:  # a fresh session puts it there again
            raise ConnectionLostError(f"{self._where}: benchmark_model is gone: {said.last_line}")
        if said.code - 128 in _FROM_OUTSIDE:
            raise ConnectionLostError(
                f"{self._where}: benchmark_model was killed (signal {said.code - 128}): by "
                f"another program there, or for lack of memory; its last line: {said.last_line}"
            )
        if said.code > 128:
            raise WorkloadError(
                f"{self._where}: benchmark_model died of signal {said.code - 128} under the "
                f"model; its last line: {said.last_line}"
            )
        if said.code != 0:
            raise WorkloadError(f"{self._where}: benchmark_model failed: {said.last_line}")

    def _chosen_cpus(self, affinity: Any) -> tuple[int, ...]:
        """The cores to run on: the card's, or the big ones."""
        if self._installed.cpu_mask is not None:
            mask = int(self._installed.cpu_mask, 16)
            chosen = [cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1]
        else:
            chosen = list(affinity or self._installed.facts.big_cores(self._threads))
        present = self._installed.facts.max_khz
        if (self._installed.cpu_mask is not None and not chosen) or set(chosen) - set(present):
            raise DeviceError(
                f"{self._where}: its cores are {', '.join(map(str, present)) or 'not known'}, "
                f"and the card's cpu_mask or affinity asks for {', '.join(map(str, chosen))}"
            )
        return tuple(chosen)

    def _mask(self) -> str:
        return f"{sum(1 << cpu for cpu in self._cpus):x}"

    def _pinning(self) -> str:
        if not self._installed.facts.has_taskset:
            return "not pinned: the phone has no taskset"
        return f"cores {self._mask()}" if self._cpus else "not pinned: no core tells its clock"

    @property
    def _where(self) -> str:
        return f"phone {self._installed.phone.serial}"
