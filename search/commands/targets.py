"""From the name of a target to its latency table and, where it is at hand, its device."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from devices.card import DeviceCard, known_cards, load_card
from devices.connection import connect
from devices.device import Device, Workload
from devices.journal import Journal
from devices.profiling import measure, profile
from latency import machine
from latency.errors import CoverageError, unknown_name
from latency.library import find_table, known_tables, shipped_folder, tables_of, user_folder
from latency.ops import OpSpec
from latency.table import LatencyTable
from search.commands.console import notice, progress_bar, version
from search.space import SearchSpace

CALIBRATION_NETWORKS = 16
HELD_OUT_NETWORKS = 12


@dataclass(frozen=True)
class Target:
    """What a search or a prediction is for. `card` and `device` are None where the device is
    not at hand: then nothing can be measured. `table` is None where there is none yet; `path` is
    where new measurements go."""

    name: str
    table: LatencyTable | None
    path: Path
    card: DeviceCard | None
    device: Device | None


def resolve(name: str) -> Target:
    """The target that `name` means: a device card, a table's stem, or a path to either.

    Raises `UsageError` that lists what is known.
    """
    if name in known_cards() or name.endswith(".toml"):
        own = load_card(name)
        reached = connect(own)
        return Target(name, _table_of(reached), default_path(reached), own, reached)
    if name.endswith(".csv") or os.sep in name or name in known_tables():
        path = find_table(name)
        table = LatencyTable.load(path)
        card, device = _device_of(table)
        if device is not None and path.is_relative_to(shipped_folder()):
            path = default_path(device)
        return Target(name, table, path, card, device)
    raise unknown_name("target", name, {*known_cards(), *known_tables()})


def _table_of(device: Device) -> LatencyTable | None:
    """What is known of a device as it is set up now; the newest measurement of an operator wins.
    Tables of its card in another setting (another version of the runtime, say) don't count."""
    known: LatencyTable | None = None
    for path in reversed(list(tables_of(device.setting.device))):
        table = LatencyTable.load(path)
        if table.setting.identity != device.setting.identity:
            notice(f"{path} is of another setting ({table.setting.runtime}): not used")
        else:
            known = known.merge(table) if known else table
    return known


def default_path(device: Device) -> Path:
    """Where a device's table goes: named by hardware and runtime, in the user's data folder."""
    setting = device.setting
    return user_folder() / f"{machine.slug(f'{setting.hardware} {setting.runtime}')}.csv"


def _device_of(table: LatencyTable) -> tuple[DeviceCard | None, Device | None]:
    """The device that a table was measured on, if it is this machine, set up as it was then."""
    if table.setting.device not in known_cards():
        return None, None
    card = load_card(table.setting.device)
    device = connect(card)
    return (card, device) if device.setting.identity == table.setting.identity else (None, None)


def covered(target: Target, space: SearchSpace, quiet: bool) -> LatencyTable:
    """The target's table with every operator of the space in it.

    What lacks is measured where the device is at hand, and written to the user's table. Else
    raises `CoverageError` that names it.
    """
    if target.table is not None:
        lacking = target.table.missing(space.operators)
        if not lacking:
            return target.table
    if target.device is None or target.card is None:
        assert target.table is not None
        raise CoverageError(
            (op.key for op in lacking),
            f"the table {target.table.source}",
            f"its device is not at hand to measure them: run lat-profile --device "
            f"{target.table.setting.device} --space {space.name} there",
        )
    if target.table is None or space.tag not in target.table.calibrations:
        notice(f"no measurements of {space.tag} on {target.name} yet: profiling it first")
        return profile_space(target.card, target.device, space, target.path, True, quiet)
    notice(f"{target.table.source} lacks {len(lacking)} operator(s) of {space.tag}: measuring")
    return _measure_missing(
        target.table, target.card, target.device, target.path, space.tag, lacking
    )


def _measure_missing(
    table: LatencyTable,
    card: DeviceCard,
    device: Device,
    path: Path,
    tag: str,
    lacking: Sequence[OpSpec],
) -> LatencyTable:
    """The table with the operators that it lacks, written to `path`."""
    measured = measure(device, [Workload.of_op(op) for op in lacking], card.measuring)
    rows = {op: measured[op.key] for op in lacking}
    calibration = table.calibrations[tag]
    inside = {op: calibration.in_network_ms(op, row.median_ms) for op, row in rows.items()}
    return _keep(table.merge(replace(table, rows=rows, in_network_ms=inside)), path)


def _keep(table: LatencyTable, path: Path) -> LatencyTable:
    """Write a table to `path`, beside the rows that are there already; the table as written."""
    merged = LatencyTable.load(path).merge(table) if path.exists() else table
    merged.save(path)
    return replace(merged, source=str(path))


def profile_space(
    card: DeviceCard,
    device: Device,
    space: SearchSpace,
    path: Path,
    resume: bool,
    quiet: bool,
) -> LatencyTable:
    """Measure every operator of a space and a sample of its networks; write the table to `path`,
    beside the rows that are there already. Returns the table as written."""
    networks = sample_networks(space)
    circumstances = {
        "clock": machine.clock(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "tool": f"lat-search {version()}",
        "load": f"{os.getloadavg()[0]:.2f}",
        "interval asked": f"{card.measuring.ci95:g}",
    }
    with (
        Journal(path.with_suffix(".journal"), device.setting, resume) as journal,
        progress_bar(quiet) as bar,
    ):
        if journal.set_aside:
            notice(f"an unfinished run is set aside as {journal.set_aside}; --resume goes on")
        task = bar.add_task("measuring", total=None)
        table = profile(
            device,
            space.operators,
            networks[:CALIBRATION_NETWORKS],
            networks[CALIBRATION_NETWORKS:],
            space.tag,
            card.measuring,
            journal,
            circumstances,
            lambda p: bar.update(task, description=p.doing, completed=p.done, total=p.total),
        )
        kept = _keep(table, path)
        journal.remove()
    return kept


def sample_networks(space: SearchSpace):
    """The random networks that a profile measures: calibration first, then the held-out ones."""
    generator = np.random.default_rng(0)
    choices = space.random_choices(CALIBRATION_NETWORKS + HELD_OUT_NETWORKS, generator)
    return [space.network(row.tolist()) for row in choices]
