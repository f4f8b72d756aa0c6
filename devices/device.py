"""`Device`: what measures. A workload goes in, raw times come out; when to stop is the host's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from latency.formats import Setting
from latency.network import NetworkSpec
from latency.ops import OpSpec


@dataclass(frozen=True)
class Workload:
    """A chain of operators to time as one model.

    `name` identifies it in journals. `model`: the file to run; where it is None, the runtime
    writes one with random weights.
    """

    name: str
    ops: tuple[OpSpec, ...]
    model: bytes | None = field(default=None, repr=False)

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


class Sitting(Protocol):
    """A fresh process on the device, with models loaded into it."""

    def load(self, workload: Workload) -> int:
        """Make a workload ready to run; returns its handle."""
        ...

    def run(self, handle: int, warmup: int, runs: int) -> Sequence[float]:
        """Run it `warmup` times untimed, then `runs` times; the times in ms."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Device(Protocol):
    """A target that can be measured now. Raises `DeviceError` where it fails."""

    @property
    def setting(self) -> Setting:
        """What a table measured on it is valid for."""
        ...

    def sit(self) -> Sitting:
        """Start a fresh process on the device."""
        ...
