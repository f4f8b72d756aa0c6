"""A device: a transport reaches it, a runtime executes model files on it.

A device takes workloads and returns raw times; the host decides when to stop. Transports and
runtimes are independent of each other.

    host                                                     device
    measure ─ Device ─ Session ─ Channel ════ transport ════ agent ─ runtime ─ model file
                          └─ Runtime.build (model files) ─ Transport.send ─┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Protocol, Self

from pydantic import Field

from devices.export.onnx_model import Weights
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.measurement import BOUNDS
from latency.tables.setting import Setting


def _within(column: str) -> Any:
    """A field with the bounds of a table's column, which a journal is checked against."""
    least, most = BOUNDS[column]
    return Field(ge=least, le=most)


@dataclass(frozen=True)
class Workload:
    """A chain of operators to time as one model.

    `name` is unique in a measurement. `model`: the file to run; None lets the runtime write one
    with random weights.
    """

    name: str
    ops: tuple[OpSpec, ...]
    model: bytes | None = field(default=None, repr=False)

    @cached_property
    def digest(self) -> str:
        """Identifies what is run, the operators and the model file, whatever its name."""
        digest = sha256("\n".join(op.key for op in self.ops).encode())
        if self.model is not None:
            digest.update(b"\n\n" + self.model)
        return digest.hexdigest()[:16]

    @property
    def is_network(self) -> bool:
        """More than one operator."""
        return len(self.ops) > 1

    @classmethod
    def of_op(cls, op: OpSpec) -> Self:
        return cls(op.key, (op,))

    @classmethod
    def of_network(cls, network: NetworkSpec) -> Self:
        return cls(network.name, network.ops)


@dataclass(frozen=True)
class Timing:
    """The times of back-to-back runs of a workload.

    `ms`: one time per run, or their median alone where the device reports no more. `runs`: number
    of timed runs. `memory_bytes`: peak memory of the workload, where the runtime reports it.
    """

    ms: Annotated[tuple[Annotated[float, _within("latency_ms")], ...], Field(min_length=1)]
    runs: Annotated[int, _within("runs")]
    memory_bytes: Annotated[int, _within("memory_bytes")] | None = None


@dataclass(frozen=True)
class Condition:
    """The state of a device; None for what it cannot read."""

    temperature_c: Annotated[float, _within("temperature_c")] | None = None
    frequency_mhz: Annotated[float, _within("frequency_mhz")] | None = None


class Session(Protocol):
    """A fresh process on the device, with models loaded into it.

    Raises `ConnectionLostError` where the process or the way to it is gone, `WorkloadError`
    where one workload cannot be loaded or run, `DeviceError` where nothing can.
    """

    @property
    def is_resident(self) -> bool:
        """Whether models stay loaded and warm between runs. Otherwise each run starts its own
        process on the device and warms up by itself."""

    @property
    def traces(self) -> bool:
        """Whether the runtime has a per-node profiler."""

    def load(self, workload: Workload) -> int:
        """Load a workload; returns its handle."""

    def run(self, handle: int, warmup: int, runs: int) -> Timing:
        """Run it `warmup` times untimed, then `runs` times timed."""

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        """ms of each node of a workload's model, by the runtime's profiler, in order of execution;
        {} without one. A node has the name of the layer that it executes, "position.layer", or a
        name of the runtime's own. Profiled runs are slower than others."""

    def condition(self) -> Condition:
        """The device's temperature and clock now."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class Device(Protocol):
    """A target that can be measured now. Raises `DeviceError` where it fails."""

    @property
    def label(self) -> str:
        """Identifies one of several devices of a card: a host, a serial number."""

    @property
    def setting(self) -> Setting:
        """The setting that a table measured on it is valid for."""

    @property
    def suffix(self) -> str:
        """Suffix of its runtime's model files, e.g. ".onnx"."""

    def build(self, network: NetworkSpec, weights: Weights) -> bytes:
        """The model file of a network."""

    def open_session(self) -> Session:
        """Start a new process on the device."""


class Runtime(Protocol):
    """The host's side of a runtime; the device's side answers on a channel."""

    @property
    def suffix(self) -> str:
        """Suffix of its model files, e.g. ".onnx"."""

    @property
    def options(self) -> str:
        """Its settings, for a table's header: "name=value ..."."""

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The model file of a chain of operators."""

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """Node times under the names of the layers that the nodes execute ("position.layer"), as
        far as the runtime's names show these."""


class Channel(Protocol):
    """A running process on the device. Requests are JSON objects; `devices.agent` defines hello,
    load, run, trace and state."""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises `ConnectionLostError` where none comes,
        `WorkloadError` where a model cannot be loaded or run, `DeviceError` for other failures."""

    def close(self) -> None:
        """End the process; never raises."""


class Transport(Protocol):
    """A way to a device; connects on first use."""

    @property
    def label(self) -> str:
        """Identifies its device: a host, a serial number."""

    def send(self, content: bytes, suffix: str) -> str:
        """Put a file on the device, once per content; returns its path there."""

    def start(self) -> Channel:
        """Start a process that answers requests."""

    def close(self) -> None:
        """Disconnect from the device; never raises."""
