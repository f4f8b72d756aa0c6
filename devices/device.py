"""What a device is made of: a transport reaches it, a runtime executes model files on it.

A workload goes in, raw times come out; when to stop is the host's. Transports and runtimes know
nothing of each other: any of the one serves any of the other.

    host                                                     device
    measure ─ Device ─ Sitting ─ Channel ════ transport ════ agent ─ runtime ─ model file
                          └─ Runtime.build (model files) ─ Transport.send ─┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from devices.export.onnx_model import Weights
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.setting import Setting


@dataclass(frozen=True)
class Workload:
    """A chain of operators to time as one model.

    `name` tells it from the others of a measurement. `model`: the file to run; where it is None,
    the runtime writes one with random weights.
    """

    name: str
    ops: tuple[OpSpec, ...]
    model: bytes | None = field(default=None, repr=False)

    @cached_property
    def digest(self) -> str:
        """Of what is run, the operators and the model file, whatever its name: equal digests are
        equally long to run."""
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
    """What back-to-back runs of a workload took.

    `ms`: of each run; where the device tells no more than their median, that one number.
    `runs`: how many were timed. `memory_bytes`: the workload's peak, where the runtime tells.
    """

    ms: tuple[float, ...]
    runs: int
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Condition:
    """The state that a device is in; None for what cannot be read on it."""

    temperature_c: float | None = None
    frequency_mhz: float | None = None


class Sitting(Protocol):
    """A fresh process on the device, with models loaded into it.

    Raises `ConnectionLostError` where the process or the way to it is gone, `WorkloadError`
    where one workload cannot be loaded or run, `DeviceError` where nothing can.
    """

    @property
    def is_resident(self) -> bool:
        """Whether models stay loaded and warm from run to run. Else each run starts a process of
        its own on the device, and sees to its warm-up itself."""
        ...

    def load(self, workload: Workload) -> int:
        """Make a workload ready to run; returns its handle."""
        ...

    def run(self, handle: int, warmup: int, runs: int) -> Timing:
        """Run it `warmup` times untimed, then `runs` times."""
        ...

    def condition(self) -> Condition:
        """The device's temperature and clock now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Tracer(Protocol):
    """What a `Sitting` may be able to do besides: tell where a model's time goes."""

    @property
    def traces(self) -> bool:
        """Whether the runtime has a profiler that tells nodes apart."""
        ...

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        """ms of each node of a workload's model while the whole of it runs, by the runtime's own
        profiler, in order of execution; a node is named by the layer that it executes,
        "position.layer", or as the runtime likes. Profiled runs are slower than others. Raises
        as `Sitting` does."""
        ...


def tracer(sitting: Sitting) -> Tracer | None:
    """The sitting as a `Tracer`, None where its runtime does not tell nodes apart."""
    return sitting if isinstance(sitting, Tracer) and sitting.traces else None


class Device(Protocol):
    """A target that can be measured now. Raises `DeviceError` where it fails."""

    @property
    def label(self) -> str:
        """Which of several devices of one card it is: a host, a serial number."""
        ...

    @property
    def setting(self) -> Setting:
        """What a table measured on it is valid for."""
        ...

    @property
    def suffix(self) -> str:
        """Of the model files that its runtime executes, e.g. ".onnx"."""
        ...

    def build(self, network: NetworkSpec, weights: Weights) -> bytes:
        """The model file that its runtime executes, for a `Workload`."""
        ...

    def sit(self) -> Sitting:
        """Start a fresh process on the device."""
        ...


class Runtime(Protocol):
    """The host's half of what executes model files; the device's half answers on a channel."""

    @property
    def suffix(self) -> str:
        """Of its model files, e.g. ".onnx"."""
        ...

    @property
    def options(self) -> str:
        """Its settings as the card has them, for a table's header: "name=value ..."."""
        ...

    @property
    def greeting(self) -> Mapping[str, Any]:
        """What the device's half needs to know to set the runtime up; `runtime` names it."""
        ...

    def build(self, ops: Sequence[OpSpec], weights: Weights, name: str) -> bytes:
        """The model file of a chain of operators."""
        ...

    def named(self, ops: Sequence[OpSpec], nodes: Mapping[str, float]) -> Mapping[str, float]:
        """What the nodes of a chain's model took, by the layers that they execute
        ("position.layer") as far as the runtime's own names tell."""
        ...


class Channel(Protocol):
    """A running process on the device, asked in JSON objects (`devices.agent` has the verbs:
    hello, load, run, trace, state)."""

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises `ConnectionLostError` where none comes, `WorkloadError` where a model cannot be
        loaded or run, `DeviceError` where anything else cannot be done.
        """
        ...

    def close(self) -> None:
        """End the process; never raises."""
        ...


class Transport(Protocol):
    """A way to a device. Nothing is reached before it is asked to."""

    @property
    def label(self) -> str:
        """Which device it leads to, in a word: a host, a serial number."""
        ...

    def send(self, content: bytes, suffix: str) -> str:
        """Put a file on the device, once per content; returns its path there."""
        ...

    def start(self) -> Channel:
        """Start a process on the device that answers requests."""
        ...

    def close(self) -> None:
        """Let go of the device; never raises."""
        ...
