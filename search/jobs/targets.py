"""From the name of a target to its latency table and, if it is at hand, its device."""

import logging
from dataclasses import dataclass
from pathlib import Path

from devices.card import DeviceCard, load_card
from devices.cards import known_cards
from devices.device import Device
from latency.errors import CoverageError, LatError
from latency.tables.library import find_table, shipped_folder, tables_of
from latency.tables.table import LatencyTable
from search.console import notice
from search.jobs.bench import Bench, default_path, reachable
from search.jobs.profiling import measure_missing, profile_spaces
from search.jobs.target_names import is_card, require_known
from search.jobs.target_tables import merged, out_of_reach
from search.space import SearchSpace

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """The device or the table that a search, a comparison or a prediction is for.

    `card` is None, and `devices` empty, if no device is at hand: then nothing can be measured.
    `table` is None if there is none yet; `path` is where new measurements go.
    """

    name: str
    table: LatencyTable | None
    path: Path
    card: DeviceCard | None
    devices: tuple[Device, ...]

    @property
    def device(self) -> Device | None:
        """The device, or the first of several; None if none is at hand."""
        return self.devices[0] if self.devices else None

    @property
    def at_hand(self) -> tuple[Device, DeviceCard] | None:
        """The device, or the first of several, and its card: what it takes to measure. None if
        none is at hand."""
        return (self.devices[0], self.card) if self.devices and self.card is not None else None

    @property
    def bench(self) -> Bench | None:
        """What is measured on, and where to; None if no device is at hand."""
        if not self.devices or self.card is None:
            return None
        return Bench(self.card, self.devices, self.path)

    @property
    def batch(self) -> int:
        """How many inputs it computes at once."""
        if self.card is not None:
            return self.card.batch
        return self.table.setting.batch if self.table else 1


def resolve(name: str) -> Target:
    """The target that `name` means: a device card, a table's stem, or a path to either.

    If a card's device cannot be reached, the target is its newest table. Raises `UsageError` that
    lists the known names, and `DeviceError` if there is neither device nor table.
    """
    require_known(name)
    target = _target_of_card(name) if is_card(name) else _target_of_table(name)
    devices = ", ".join(device.label for device in target.devices) or "none at hand"
    table = target.table.source if target.table else "none yet"
    _log.info("%s: devices: %s; table: %s", name, devices, table)
    return target


def _target_of_card(name: str) -> Target:
    card = load_card(name)
    try:
        devices = reachable(card)
        setting = devices[0].setting
    except LatError as error:
        path = out_of_reach(name, card.name, error)
        return Target(name, LatencyTable.load(path), path, None, ())
    paths = tables_of(setting.device, setting.hardware)
    table = merged(map(LatencyTable.load, paths), setting)
    return Target(name, table, default_path(setting), card, devices)


def _target_of_table(name: str) -> Target:
    """The target of a table: with the devices that it was measured on, if they are at hand and set
    up as they were then."""
    path = find_table(name)
    table = LatencyTable.load(path)
    alone = Target(name, table, path, None, ())
    if table.setting.device not in known_cards():
        return alone
    card = load_card(table.setting.device)
    try:
        devices = reachable(card)
        setting = devices[0].setting
    except LatError:
        return alone
    if setting.identity != table.setting.identity:
        return alone
    if path.is_relative_to(shipped_folder()):
        path = default_path(setting)
    return Target(name, table, path, card, devices)


def covered(target: Target, space: SearchSpace, quiet: bool) -> LatencyTable:
    """The target's table with every operator of the space in it.

    Missing operators are measured if the device is at hand, and written to the user's table.
    Otherwise raises `CoverageError`, which names them.
    """
    table, bench = target.table, target.bench
    missing = table.missing(space.operators) if table else space.operators
    if table is not None and not missing:
        for tag in table.transfers:
            notice(f"{tag} was not measured: {table.stated_error(tag)}")
        return table
    if bench is None:
        assert table is not None
        raise CoverageError(
            (op.key for op in missing),
            f"the table {table.source}",
            f"its device is not at hand to measure them: run lat-profile --device "
            f"{table.setting.device} --space {space.arguments} there, or predict them: `predicted`",
        )
    if table is None or space.tag not in table.calibrations:
        notice(f"no measurements of {space.tag} on {target.name} yet: profiling it first")
        return profile_spaces(bench, [space], resume=True, quiet=quiet)
    notice(
        f"{len(missing)} operator(s) of {space.tag} are missing from {table.source}: measuring them"
    )
    return measure_missing(bench, table, space.tag, missing)
