"""From a card to its devices: joins the transport and the runtime that it names."""

from dataclasses import replace
from importlib import import_module

from devices.agent_device import AgentDevice
from devices.card import DeviceCard
from devices.device import Device, Transport
from devices.replay import ReplayDevice
from devices.transports.local import LocalTransport
from latency.errors import extra
from latency.tables.table import LatencyTable

_RUNTIMES = {
    "onnxruntime": ("devices.runtimes.onnx_runtime", "OnnxRuntime"),
    "litert": ("devices.runtimes.lite_rt", "LiteRt"),
    "torch": ("devices.runtimes.torch_eager", "TorchEager"),
    "benchmark_model": ("devices.runtimes.lite_rt", "LiteRt"),
}


def connect(card: DeviceCard) -> Device:
    """The device of a card, or the first of several; connects on first use. Raises `UsageError`
    where a package that the card needs is not installed."""
    return connect_all(card)[0]


def connect_all(card: DeviceCard) -> tuple[Device, ...]:
    """All devices of a card: one, or several that share the work. Raises `DeviceError` where the
    card uses all attached phones and none is attached."""
    if card.transport == "replay":
        assert card.replay is not None
        table, pace = LatencyTable.load(card.replay.table), card.replay.pace
        hardware = f"replay of {table.setting.hardware}"
        setting = replace(table.setting, device=card.name, hardware=hardware, transport="replay")
        table = replace(table, setting=setting)
        return tuple(ReplayDevice(table, i, pace=pace) for i in range(card.replay.devices))
    module, name = _RUNTIMES[card.runtime]
    with extra("mobile"):
        runtime = getattr(import_module(module), name)(card)
    return tuple(AgentDevice(card, transport, runtime) for transport in _transports(card))


def _transports(card: DeviceCard) -> tuple[Transport, ...]:
    if card.transport == "local":
        return (LocalTransport(),)
    if card.transport == "ssh":
        assert card.ssh is not None
        with extra("ssh"):
            from devices.transports.ssh import SshTransport
        return tuple(
            SshTransport(card.ssh.model_copy(update={"host": host})) for host in card.ssh.all_hosts
        )
    with extra("mobile"):
        from devices.transports.adb import AdbTransport, chosen_serials
    return tuple(AdbTransport(card.adb, serial) for serial in chosen_serials(card.adb))
