"""From a card to a device: the transport and the runtime that it names, put together."""

import os
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import Self

from devices.card import DeviceCard
from devices.device import Workload
from devices.runtimes.onnx_runtime import OnnxRuntime
from devices.transports.local import LocalChannel, LocalTransport
from latency import machine
from latency.formats import Setting


def connect(card: DeviceCard) -> "AgentDevice":
    """The device that a card describes. Nothing is started before the device is asked."""
    return AgentDevice(card, LocalTransport(), OnnxRuntime(card))


class AgentDevice:
    """A device on which the agent runs: transport x runtime."""

    def __init__(self, card: DeviceCard, transport: LocalTransport, runtime: OnnxRuntime) -> None:
        self._card = card
        self._transport = transport
        self._runtime = runtime
        self._paths: dict[Workload, str] = {}

    @cached_property
    def setting(self) -> Setting:
        with self.sit() as sitting:
            version = sitting.runtime_version
        return Setting(
            device=self._card.name,
            hardware=machine.hardware(),
            system=machine.system(),
            runtime=version,
            threads=self._card.threads,
            precision=self._card.precision,
            batch=self._card.batch,
            transport=self._card.transport,
            options=self._runtime.options,
        )

    def sit(self) -> "AgentSitting":
        channel = self._transport.start()
        try:
            greeting = {**self._runtime.greeting, "affinity": self._affinity()}
            version = channel.ask({"do": "hello", **greeting})["runtime"]
        except BaseException:
            channel.close()
            raise
        return AgentSitting(self, channel, version)

    def path_of(self, workload: Workload) -> str:
        """Where the workload's model file is on the device; sent there if need be."""
        if workload not in self._paths:
            content = self._runtime.build(workload)
            self._paths[workload] = self._transport.send(content, self._runtime.suffix)
        return self._paths[workload]

    def _affinity(self) -> list[int]:
        """The card's CPUs, or the last ones: the first serve most interrupts."""
        if self._card.affinity is not None:
            return list(self._card.affinity)
        if not hasattr(os, "sched_getaffinity"):
            return []
        return sorted(os.sched_getaffinity(0))[-self._card.threads :]


class AgentSitting:
    """A fresh agent on the device."""

    def __init__(self, device: AgentDevice, channel: LocalChannel, runtime_version: str) -> None:
        self._device = device
        self._channel = channel
        self.runtime_version = runtime_version

    def load(self, workload: Workload) -> int:
        path = self._device.path_of(workload)
        return self._channel.ask({"do": "load", "path": path})["handle"]

    def run(self, handle: int, warmup: int, runs: int) -> Sequence[float]:
        request = {"do": "run", "handle": handle, "warmup": warmup, "runs": runs}
        return [ns / 1e6 for ns in self._channel.ask(request)["ns"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()
