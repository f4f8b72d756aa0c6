"""`AgentDevice`: a device on which a process answers requests; transport x runtime."""

import logging
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

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
_PLAUSIBLE = {"temperature_c": (-100.0, 1000.0), "frequency_mhz": BOUNDS["frequency_mhz"]}
"""Range of each sensor of a `Condition`; a value outside it counts as unreadable."""
_log = logging.getLogger(__name__)

_Text = Annotated[str, Field(max_length=20_000), AfterValidator(partial(shown, most=300))]


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Facts(_Answer):
    cpus: int = Field(ge=1, le=4096)
    accelerator: _Text | None = None
    board: _Text = ""
    cpu_info: str = Field("", max_length=20_000)
    machine: _Text = ""
    system: _Text = ""

    @property
    def hardware(self) -> str:
        """The hardware that names a table: the accelerator or the board, else the processor."""
        name = machine.describe(self.cpus, self.board, self.cpu_info, self.machine)
        return self.accelerator or shown(name)


class _Hello(_Answer):
    facts: _Facts
    runtime: _Text = Field(min_length=1)
    build: _Text = ""
    cpus: list[Annotated[int, Field(ge=0, lt=4096)]] = Field([], max_length=4096)
    resident: bool = True
    traces: bool = False


class _Loaded(_Answer):
    handle: int


class _Run(_Answer):
    ns: list[Annotated[float, Field(ge=LEAST_MS * _NS_IN_MS, le=MOST_MS * _NS_IN_MS)]] = Field(
        min_length=1
    )
    runs: int | None = Field(None, ge=1, lt=1 << 31)
    memory_bytes: int | None = Field(None, ge=0, le=BOUNDS["memory_bytes"][1])


class _Traced(_Answer):
    ns: dict[
        Annotated[str, Field(max_length=4000)],
        Annotated[float, Field(ge=0, le=MOST_MS * _NS_IN_MS)],
    ] = Field(min_length=1)


_AnyAnswer = TypeVar("_AnyAnswer", bound=_Answer)


def hello(card: DeviceCard) -> dict[str, Any]:
    """The request that starts a card's runtime on the device: all keys, without the sections."""
    sections = {"measuring", "ssh", "adb", "replay"}
    return {"do": "hello", **card.model_dump(exclude=sections)}


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
        pinned = (
            [f"cpus={','.join(map(str, answer.cpus))}"]
            if self.card.affinity and answer.cpus
            else []
        )
        return Setting(
            device=self.card.name,
            hardware=answer.facts.hardware,
            system=answer.facts.system,
            runtime=answer.runtime,
            build=answer.build,
            threads=self.card.threads,
            precision=self.card.precision,
            batch=self.card.batch,
            transport=self.card.transport,
            options=" ".join([self.runtime.options, *pinned]),
        )

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
            answer = _checked(_Hello, channel.ask(hello(self.card)), DeviceError)
            return AgentSession(self, channel, answer)
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

    def __init__(self, device: AgentDevice, channel: Channel, greeting: _Hello) -> None:
        self._device = device
        self._channel = channel
        self.greeting = greeting
        self.is_resident = greeting.resident
        self.traces = greeting.traces

    def load(self, workload: Workload) -> int:
        path = self._device.path_of(workload)
        return _checked(_Loaded, self._channel.ask({"do": "load", "path": path})).handle

    def run(self, handle: int, warmup: int, runs: int) -> Timing:
        request = {"do": "run", "handle": handle, "warmup": warmup, "runs": runs}
        answer = _checked(_Run, self._channel.ask(request))
        ms = tuple(ns / _NS_IN_MS for ns in answer.ns)
        return Timing(ms, answer.runs or len(ms), answer.memory_bytes)

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        if not self.traces:
            return {}
        path = self._device.path_of(workload)
        request = {"do": "trace", "path": path, "warmup": warmup, "runs": runs}
        nodes = _checked(_Traced, self._channel.ask(request)).ns
        traced = {name: ns / _NS_IN_MS for name, ns in nodes.items()}
        is_ours = workload.model is None
        return self._device.runtime.named(workload.ops, traced) if is_ours else traced

    def condition(self) -> Condition:
        state = self._channel.ask({"do": "state"})
        return Condition(
            **{name: _plausible(state.get(name), *bounds) for name, bounds in _PLAUSIBLE.items()}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()


def _checked(
    kind: type[_AnyAnswer], answer: Mapping[str, Any], error: type[DeviceError] = WorkloadError
) -> _AnyAnswer:
    """The answer as this kind. Raises `error` where it is not valid."""
    try:
        return kind.model_validate(answer)
    except ValidationError as fault:
        first = fault.errors()[0]
        key, value = shown(".".join(map(str, first["loc"])), 80), shown(first["input"], 80)
        raise error(f"the device's answer is not valid: {key}: {first['msg']}: {value}") from None


def _plausible(value: Any, least: float, most: float) -> float | None:
    return float(value) if isinstance(value, int | float) and least <= value <= most else None
