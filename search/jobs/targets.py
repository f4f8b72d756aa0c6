"""From the name of a target to its latency table and, where it is at hand, its device."""

import logging
from dataclasses import dataclass
from pathlib import Path

from devices.card import DeviceCard, load_card
from devices.cards import known_cards
from devices.connection import connect_all
from devices.device import Device
from devices.fleet import within_reach
from latency.errors import CoverageError, DeviceError, LatError
from latency.tables.library import find_table, shipped_folder, tables_of, user_folder
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from search.console import notice
from search.jobs.profiling import measure_missing, profile_spaces
from search.jobs.target_names import is_card, require_known
from search.space import SearchSpace

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What a search or a prediction is for.

    `card` is None, and `devices` empty, where no device is at hand: then nothing can be
    measured. `table` is None where there is none yet; `path` is where new measurements go.
    """

    name: str
    table: LatencyTable | None
    path: Path
    card: DeviceCard | None
    devices: tuple[Device, ...]

    @property
    def device(self) -> Device | None:
        """The device, or the first of several; None where none is at hand."""
        return self.devices[0] if self.devices else None

    @property
    def at_hand(self) -> tuple[Device, DeviceCard] | None:
        """The device, or the first of several, and its card: what it takes to measure. None where
        none is at hand."""
        return (self.devices[0], self.card) if self.devices and self.card is not None else None

    @property
    def batch(self) -> int:
        """How many inputs it computes at once."""
        if self.card is not None:
            return self.card.batch
        return self.table.setting.batch if self.table else 1


def resolve(name: str) -> Target:
    """The target that `name` means: a device card, a table's stem, or a path to either.

    A card whose device cannot be reached stands for the newest table of it. Raises `UsageError`
    that lists what is known, and `DeviceError` where there is neither device nor table.
    """
    require_known(name)
    target = _of_card(name, load_card(name)) if is_card(name) else _of_table(name)
    devices = ", ".join(device.label for device in target.devices) or "none at hand"
    table = target.table.source if target.table else "none yet"
    _log.info("%s: devices: %s; table: %s", name, devices, table)
    return target


def _of_table(name: str) -> Target:
    path = find_table(name)
    table = LatencyTable.load(path)
    card, devices = _devices_of(table)
    if devices and path.is_relative_to(shipped_folder()):
        path = default_path(devices[0].setting)
    return Target(name, table, path, card, devices)


def _of_card(name: str, card: DeviceCard) -> Target:
    try:
        devices = reachable(card)
        setting = devices[0].setting
    except LatError as unreachable:
        path = next(tables_of(card.name), None)
        if path is None:
            raise DeviceError(
                f"{name} cannot be reached ({unreachable}), and there is no table of it. "
                f"Two ways out: make it reachable and run lat-profile --device {name}; or import "
                "a published table (lat-table import --format proxylessnas|ofa FILE "
                f"--device {card.name} --out FILE.csv) and name it: --target FILE.csv"
            ) from None
        notice(f"{name} cannot be reached ({unreachable}): going by its table {path}")
        return Target(name, LatencyTable.load(path), path, None, ())
    return Target(name, _table_of(setting), default_path(setting), card, devices)


def _table_of(setting: Setting) -> LatencyTable | None:
    """What is known of a device as it is set up now; the newest measurement of an operator wins.
    Tables of its card in another setting (another version of the runtime, say) don't count."""
    known: LatencyTable | None = None
    for path in reversed(list(tables_of(setting.device, setting.hardware))):
        table = LatencyTable.load(path)
        if table.setting.identity != setting.identity:
            notice(f"{path} is of another setting ({table.setting.runtime}): not used")
        else:
            known = known.merge(table) if known else table
    return known


def default_path(setting: Setting, out: Path | None = None) -> Path:
    """Where a device's table goes: to the CSV file `out`, or named by its setting into the folder
    `out`; into the user's data folder where neither is given."""
    if out is not None and out.suffix == ".csv":
        return out
    return (user_folder() if out is None else out) / f"{setting.stem}.csv"


def reachable(card: DeviceCard) -> tuple[Device, ...]:
    """The devices of a card that answer; a notice names each other one. Raises `DeviceError` where
    none does, and as `connect_all`."""
    found, lost = within_reach(connect_all(card))
    for label, error in lost.items():
        notice(f"{label} cannot be reached ({error}): going on without it")
    return found


def _devices_of(table: LatencyTable) -> tuple[DeviceCard | None, tuple[Device, ...]]:
    """The devices that a table was measured on, if they are at hand, set up as they were then."""
    if table.setting.device not in known_cards():
        return None, ()
    card = load_card(table.setting.device)
    try:
        devices = reachable(card)
        is_same = devices[0].setting.identity == table.setting.identity
    except LatError:
        return None, ()
    return (card, devices) if is_same else (None, ())


def covered(target: Target, space: SearchSpace, quiet: bool) -> LatencyTable:
    """The target's table with every operator of the space in it.

    What lacks is measured where the device is at hand, and written to the user's table. Else
    raises `CoverageError` that names it.
    """
    if target.table is not None:
        lacking = target.table.missing(space.operators)
        if not lacking:
            for tag in target.table.transfers:
                notice(f"{tag} was not measured: {target.table.stated_error(tag)}")
            return target.table
    if target.at_hand is None:
        assert target.table is not None
        raise CoverageError(
            (op.key for op in lacking),
            f"the table {target.table.source}",
            f"its device is not at hand to measure them: run lat-profile --device "
            f"{target.table.setting.device} --space {space.words} there, or predict them: "
            "--predicted",
        )
    device, card = target.at_hand
    if target.table is None or space.tag not in target.table.calibrations:
        notice(f"no measurements of {space.tag} on {target.name} yet: profiling it first")
        return profile_spaces(card, target.devices, [space], target.path, True, quiet)
    notice(f"{target.table.source} lacks {len(lacking)} operator(s) of {space.tag}: measuring")
    return measure_missing(target.table, card, device, target.path, space.tag, lacking)
