"""`Bench`: the devices that are measured on, and the table that is written."""

from dataclasses import dataclass
from pathlib import Path

from devices.card import DeviceCard
from devices.connection import connect_all
from devices.device import Device
from devices.fleet import within_reach
from latency.tables.library import user_folder
from latency.tables.setting import Setting
from search.console import notice


@dataclass(frozen=True)
class Bench:
    """A card and its reachable devices, one or more. `path`: the table that measurements are
    written to."""

    card: DeviceCard
    devices: tuple[Device, ...]
    path: Path

    @property
    def device(self) -> Device:
        """The first of the devices, for work that is not shared among several."""
        return self.devices[0]


def open_bench(card: DeviceCard, out: Path | None = None) -> Bench:
    """The bench of a device card. `out`: the table to write, or its folder. Raises `DeviceError`
    if no device of the card can be reached."""
    devices = reachable(card)
    return Bench(card, devices, default_path(devices[0].setting, out))


def reachable(card: DeviceCard) -> tuple[Device, ...]:
    """The devices of a card that answer; a notice names each other one. Raises `DeviceError` if
    none does."""
    found, lost = within_reach(connect_all(card))
    for label, error in lost.items():
        notice(f"{label} cannot be reached ({error}): continuing without it")
    return found


def default_path(setting: Setting, out: Path | None = None) -> Path:
    """Where a device's table is written to: the CSV file `out`, or a file named by the setting in
    the folder `out`, by default the user's data folder."""
    if out is not None and out.suffix == ".csv":
        return out
    return (out or user_folder()) / f"{setting.stem}.csv"
