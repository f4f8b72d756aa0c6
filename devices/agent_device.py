"""`AgentDevice`: a device on which a process answers requests; transport x runtime."""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from devices.card import DeviceCard
from devices.device import Channel, Condition, Runtime, Timing, Transport, Workload
from devices.export.onnx_model import Weights, random_weights
from devices.transports.channel import shown
from latency import machine
from latency.errors import DeviceError, SpecError, WorkloadError
from latency.operators.network import NetworkSpec
from latency.tables.measurement import BOUNDS
from latency.tables.setting import Setting
from latency.units import LEAST_MS, MOST_MS

_NS_IN_MS = 1e6
_LEAST_NS, _MOST_NS = LEAST_MS * _NS_IN_MS, MOST_MS * _NS_IN_MS
_MOST_CPUS = 4096
_MOST_RUNS = 1 << 30
_MOST_OF_A_NAME = 4000
"""Characters of a node's name."""
_PLAUSIBLE = {"temperature_c": (-100.0, 1000.0), "frequency_mhz": BOUNDS["frequency_mhz"]}
"""Range of each sensor of a `Condition`; a value outside it counts as unreadable."""
_log = logging.getLogger(__name__)


class AgentDevice:
    """A `Device` whose processes are started by a transport and run a runtime's model files."""

    def __init__(self, card: DeviceCard, transport: Transport, runtime: Runtime) -> None:
        self.card = card
        self.transport = transport
        self.runtime = runtime
        self._weights = random_weights()
        self._paths: dict[Workload, str] = {}

    @cached_property
    def setting(self) -> Setting:
        with self.open_session() as session:
            answer = session.greeting
        facts = answer.get("facts")
        if not isinstance(facts, dict):
            raise DeviceError(f"{self.card.name}: the device does not report its hardware")
        hardware, runtime = shown(_hardware(facts)), _text(answer, "runtime")
        if not runtime:
            raise DeviceError(f"{self.card.name}: the device does not report its runtime")
        return Setting(
            device=self.card.name,
            hardware=hardware,
            system=_text(facts, "system"),
            runtime=runtime,
            build=_text(answer, "build"),
            threads=self.card.threads,
            precision=self.card.precision,
            batch=self.card.batch,
            transport=self.card.transport,
            options=" ".join([self.runtime.options, *self._chosen_cpus(answer)]),
        )

    def _chosen_cpus(self, answer: Mapping[str, Any]) -> list[str]:
        """The CPUs that the process runs on, as an option, where the card names some."""
        cpus = answer.get("cpus") if self.card.affinity else None
        if not cpus:
            return []
        if not isinstance(cpus, list) or len(cpus) > _MOST_CPUS:
            raise DeviceError(f"the device's CPUs came back as {shown(cpus, 80)}")
        numbers = [_number(cpu, "a CPU", 0, _MOST_CPUS, DeviceError) for cpu in cpus]
        return ["cpus=" + ",".join(f"{number:g}" for number in numbers)]

    @property
    def label(self) -> str:
        return self.transport.label

    @property
    def suffix(self) -> str:
        return self.runtime.suffix

    def build(self, network: NetworkSpec, weights: Weights) -> bytes:
        return self.runtime.build(network.ops, weights, network.name)

    def open_session(self) -> "AgentSession":
        channel = self.transport.start()
        _log.debug("%s: a process is started", self.label)
        try:
            hello = {"do": "hello", **self.runtime.greeting, "affinity": self.card.affinity}
            return AgentSession(self, channel, channel.ask(hello))
        except BaseException:
            channel.close()
            raise

    def path_of(self, workload: Workload) -> str:
        """The path of the workload's model file on the device; sends it on first use."""
        if workload not in self._paths:
            content = workload.model
            if content is None:
                try:
                    content = self.runtime.build(workload.ops, self._weights, workload.name)
                except SpecError as error:  # not expressible in this runtime or precision
                    raise WorkloadError(f"{workload.name}: {error}") from None
            self._paths[workload] = self.transport.send(content, self.runtime.suffix)
            _log.debug("%s: %s is sent, %d bytes", self.label, workload.name, len(content))
        return self._paths[workload]

    def close(self) -> None:
        """Disconnect from the device."""
        self.transport.close()


class AgentSession:
    """A new process on the device. `greeting`: its answer to hello.

    Every answer is validated; an invalid answer about a model is that model's failure.
    """

    def __init__(self, device: AgentDevice, channel: Channel, greeting: Mapping[str, Any]) -> None:
        self._device = device
        self._channel = channel
        self.greeting = greeting
        self.is_resident = bool(greeting.get("resident", True))
        self.traces = bool(greeting.get("traces", False))

    def load(self, workload: Workload) -> int:
        path = self._device.path_of(workload)
        handle = self._channel.ask({"do": "load", "path": path}).get("handle")
        if not isinstance(handle, int):
            raise WorkloadError(f"a model was loaded under the handle {shown(handle, 80)}")
        return handle

    def run(self, handle: int, warmup: int, runs: int) -> Timing:
        answer = self._channel.ask({"do": "run", "handle": handle, "warmup": warmup, "runs": runs})
        times = answer.get("ns")
        if not isinstance(times, list) or not 0 < len(times) <= runs:
            raise WorkloadError(f"{runs} runs were answered with {shown(times, 80)}")
        ms = tuple(_number(ns, "the ns of a run", _LEAST_NS, _MOST_NS) / _NS_IN_MS for ns in times)
        count = _number(answer.get("runs", len(ms)), "the number of runs", 1, _MOST_RUNS)
        memory = answer.get("memory_bytes")
        if memory is not None:
            memory = int(_number(memory, "the bytes of a run", *BOUNDS["memory_bytes"]))
        return Timing(ms, int(count), memory)

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        path = self._device.path_of(workload)
        request = {"do": "trace", "path": path, "warmup": warmup, "runs": runs}
        nodes = self._channel.ask(request).get("ns")
        if not isinstance(nodes, dict) or not nodes:
            raise WorkloadError(f"a trace was answered with {shown(nodes, 80)}")
        if max(map(len, nodes)) > _MOST_OF_A_NAME:
            raise WorkloadError(f"a node of a traced model has the name {shown(max(nodes), 80)}...")
        traced = {
            name: _number(ns, "the ns of a node", 0, _MOST_NS) / _NS_IN_MS
            for name, ns in nodes.items()
        }
        if sum(traced.values()) < LEAST_MS:
            raise WorkloadError("the nodes of a traced model took no time")
        is_ours = workload.model is None
        return self._device.runtime.named(workload.ops, traced) if is_ours else traced

    def condition(self) -> Condition:
        state = self._channel.ask({"do": "state"})
        readable = [key for key, of in _PLAUSIBLE.items() if _is_within(state.get(key), *of)]
        return Condition(**{key: float(state[key]) for key in readable})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()


def _hardware(facts: Mapping[str, Any]) -> str:
    """The hardware that names a table: the accelerator or the board, else the processor."""
    if accelerator := _text(facts, "accelerator"):
        return accelerator
    count = int(_number(facts.get("cpus"), "the number of CPUs", 1, _MOST_CPUS, DeviceError))
    names = {name: _text(facts, name) for name in ("board", "cpu_info", "machine")}
    return machine.describe(count, **names)


def _text(answer: Mapping[str, Any], key: str) -> str:
    """A printable text of an answer; "" where it is absent."""
    value = answer.get(key) or ""
    if not isinstance(value, str) or len(value) > 20_000:
        raise DeviceError(f"the device's {key} is not a text: {shown(value, 80)}")
    return value if key == "cpu_info" else shown(value, 300)


def _number(
    value: Any, what: str, least: float, most: float, error: type[DeviceError] = WorkloadError
) -> float:
    if not _is_within(value, least, most):
        limits = f"not a number from {least:g} to {most:g}"
        raise error(f"{what} came back as {shown(value, 80)}, {limits}")
    return float(value)


def _is_within(value: Any, least: float, most: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and least <= value <= most
