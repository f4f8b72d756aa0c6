"""One profile of a space on the devices of a card: journals, progress, and the table kept."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from devices.card import DeviceCard
from devices.device import Device, Workload
from devices.journal import Journal
from devices.measuring import measure
from devices.profiling import profile
from latency import machine
from latency.errors import TableError
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.table import LatencyTable
from search.commands.console import following, notice, progress_bar, version
from search.space import SearchSpace

CALIBRATION_NETWORKS = 16
HELD_OUT_NETWORKS = 12
_ROUNDS = 20
"""How many times so many networks are drawn before a space is taken to have no others."""


def profile_space(
    card: DeviceCard,
    devices: Sequence[Device],
    space: SearchSpace,
    path: Path,
    resume: bool,
    quiet: bool,
) -> LatencyTable:
    """Measure every operator of a space and a sample of its networks; write the table to `path`,
    beside the rows that are there already. Returns the table as written."""
    calibration, held_out = sample_networks(space)
    with journaled(devices, path, resume) as journals, progress_bar(quiet) as bar:
        table = profile(
            devices,
            space.operators,
            calibration,
            held_out,
            space.tag,
            card.measuring,
            journals,
            circumstances(card),
            following(bar),
        )
        kept = keep(table, path)
        for journal in journals:
            journal.remove()
    return kept


@contextmanager
def journaled(
    devices: Sequence[Device], path: Path, resume: bool, kind: str = ""
) -> Iterator[list[Journal]]:
    """Journals of a `kind` beside the table `path`, one a device; an unfinished run's are gone on
    with, or set aside with a notice. Raises `TableError` where the table is of another setting."""
    if path.exists():
        try:
            LatencyTable.load(path).require_setting(devices[0].setting)
        except TableError as error:
            raise TableError(f"{error}; write to another file: --out FILE.csv") from None
    path = path.with_name(f"{path.stem}{kind}.csv")
    with ExitStack() as stack:
        journals = [
            stack.enter_context(Journal(journal, device.setting, resume))
            for device, journal in zip(devices, _journal_paths(devices, path), strict=True)
        ]
        for journal in journals:
            if journal.set_aside:
                notice(f"an unfinished run is set aside as {journal.set_aside}; --resume goes on")
        yield journals


def measure_missing(
    table: LatencyTable,
    card: DeviceCard,
    device: Device,
    path: Path,
    tag: str,
    lacking: Sequence[OpSpec],
) -> LatencyTable:
    """The table with the operators that it lacks, written to `path`."""
    workloads = [Workload.of_op(op) for op in lacking]
    with progress_bar() as bar:
        measured = measure(device, workloads, card.measuring, on_progress=following(bar))
    rows = {op: measured[op.key] for op in lacking}
    calibration = table.calibrations[tag]
    inside = {op: calibration.in_network_ms(op, row.median_ms) for op, row in rows.items()}
    return keep(table.merge(replace(table, rows=rows, in_network_ms=inside)), path)


def keep(table: LatencyTable, path: Path) -> LatencyTable:
    """Write a table to `path`, beside the rows that are there already; the table as written."""
    merged = LatencyTable.load(path).merge(table) if path.exists() else table
    merged.save(path)
    return LatencyTable.load(path)


def sample_networks(space: SearchSpace) -> tuple[list[NetworkSpec], list[NetworkSpec]]:
    """The random networks that a profile measures, no two alike: those for calibration, and those
    held out; in a like ratio fewer of each where the space has too few."""
    generator = np.random.default_rng(0)
    wanted = CALIBRATION_NETWORKS + HELD_OUT_NETWORKS
    networks: dict[tuple[OpSpec, ...], NetworkSpec] = {}
    for _ in range(_ROUNDS):
        for row in space.random_choices(wanted, generator):
            network = space.network(row.tolist())
            networks.setdefault(network.ops, network)
        if len(networks) >= wanted:
            break
    found = list(networks.values())[:wanted]
    share = round(len(found) * CALIBRATION_NETWORKS / wanted)
    return found[:share], found[share:]


def _journal_paths(devices: Sequence[Device], path: Path) -> list[Path]:
    """One file a device; where there are several, by the device's own name."""
    if len(devices) == 1:
        return [path.with_suffix(".journal")]
    return [path.with_name(f"{path.stem}.{machine.slug(d.label)}.journal") for d in devices]


def circumstances(card: DeviceCard) -> dict[str, str]:
    """What a table's header says of when and how it was measured."""
    said = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "tool": f"lat-search {version()}",
        "interval asked": f"{card.measuring.ci95:g}",
    }
    if card.transport == "local":
        said |= {"clock": machine.clock(), "load": f"{os.getloadavg()[0]:.2f}"}
    return said
