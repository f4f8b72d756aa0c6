"""One profile of a space on the devices of a card: journals, progress, and the table kept."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from glob import escape
from pathlib import Path

import numpy as np

from devices.card import DeviceCard
from devices.device import Device, Workload
from devices.measuring.journal import Journal
from devices.measuring.rounds import measure
from devices.profiling import profile
from latency import machine
from latency.errors import DeviceError, TableError
from latency.locked_file import locked
from latency.names import slug
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from search.console import following, notice, progress_bar, version
from search.space import SearchSpace

CALIBRATION_NETWORKS = 16
HELD_OUT_NETWORKS = 12
_ROUNDS = 20
"""How many times so many networks are drawn before a space is taken to have no others."""


@dataclass(frozen=True)
class Journals:
    """What a run writes its bursts to: of the `own`, one a device. `absent`: those of a run before
    on devices of the same card that are not measured on now."""

    own: tuple[Journal, ...]
    absent: tuple[Journal, ...]

    def remove(self) -> None:
        """Delete all of them: their numbers are in a table now."""
        for journal in (*self.own, *self.absent):
            journal.remove()


def profile_spaces(
    card: DeviceCard,
    devices: Sequence[Device],
    spaces: Sequence[SearchSpace],
    path: Path,
    resume: bool,
    quiet: bool,
) -> LatencyTable:
    """Measure every operator of spaces and a sample of their networks; write the table to `path`
    as each is done, beside the rows that are there already. Returns the table as written.

    The journals stay until the last space is done, so that a run that is broken off in its midst
    measures none of them again.
    """
    with ExitStack() as stack:
        opened = []
        for space in {space.tag: space for space in spaces}.values():
            journals = stack.enter_context(journaled(devices, path, resume, space.tag))
            opened.append(journals)
            kept = keep(_profiled(card, devices, space, journals, quiet), path)
        for journals in opened:
            journals.remove()
    return kept


def _profiled(
    card: DeviceCard, devices: Sequence[Device], space: SearchSpace, journals: Journals, quiet: bool
) -> LatencyTable:
    """The table of a space alone."""
    calibration, held_out = sample_networks(space)
    with progress_bar(quiet) as bar:
        return profile(
            devices,
            space.operators,
            calibration,
            held_out,
            space.tag,
            card.measuring,
            journals.own,
            circumstances(card),
            following(bar),
            absent=journals.absent,
        )


@contextmanager
def journaled(devices: Sequence[Device], path: Path, resume: bool, what: str) -> Iterator[Journals]:
    """Journals of `what` is measured, beside the table `path`; an unfinished run's are gone on
    with, or set aside with a notice. Raises `TableError` where the table is of another setting."""
    if path.exists():
        try:
            LatencyTable.load(path).require_setting(devices[0].setting)
        except TableError as error:
            raise TableError(f"{error}; write to another file: --out FILE.csv") from None
    own = [_journal_path(path, slug(device.label), what) for device in devices]
    named = _journal_path(Path(escape(path.name)), "*", what).name
    absent = [found for found in sorted(path.parent.glob(named)) if found not in own]
    with ExitStack() as stack:
        setting = devices[0].setting
        opened = [stack.enter_context(Journal(name, setting, resume)) for name in (*own, *absent)]
        for journal in opened:
            for note in journal.notes:
                notice(note)
        yield Journals(tuple(opened[: len(own)]), tuple(opened[len(own) :]))


def measure_missing(
    table: LatencyTable,
    card: DeviceCard,
    device: Device,
    path: Path,
    tag: str,
    lacking: Sequence[OpSpec],
) -> LatencyTable:
    """The table with the operators that it lacks, written to `path`. Raises `DeviceError` where
    one could not be measured, after the others are written."""
    workloads = [Workload.of_op(op) for op in lacking]
    with journaled([device], path, True, f"{tag}.missing") as journals, progress_bar() as bar:
        measured = measure(device, workloads, card.measuring, journals.own[0], following(bar))
        rows = {op: measured.rows[op.key] for op in lacking if op.key in measured.rows}
        calibration = table.calibrations[tag]
        inside = {op: calibration.in_network_ms(op, row.median_ms) for op, row in rows.items()}
        if rows:
            table = keep(LatencyTable(table.setting, rows, inside), path, table)
        journals.remove()
    for name, error in measured.failures.items():
        raise DeviceError(
            f"{len(measured.failures)} of {len(lacking)} operator(s) could not be measured; the "
            f"first, {name}: {error}; what could be is in {path}"
        )
    return table


def keep(table: LatencyTable, path: Path, known: LatencyTable | None = None) -> LatencyTable:
    """Write a table to `path`, beside the rows that are there by now and those that were `known`
    before, which count least; the table as written."""
    with locked(path):
        there = LatencyTable.load(path) if path.exists() else None
        merged = reduce(LatencyTable.merge, filter(None, (known, there, table)))
        merged.save(path)
        return LatencyTable.load(path)


def sample_networks(space: SearchSpace) -> tuple[list[NetworkSpec], list[NetworkSpec]]:
    """The random networks that a profile measures, no two alike: those for calibration, and those
    held out; in a like ratio fewer of each where the space has too few.

    Half of those for calibration are of all sizes. A search wants fast networks, and networks
    drawn evenly are all about as slow as each other.
    """
    generator = np.random.default_rng(0)
    wanted = CALIBRATION_NETWORKS + HELD_OUT_NETWORKS
    light = CALIBRATION_NETWORKS // 2
    networks: dict[tuple[OpSpec, ...], NetworkSpec] = {}
    for draw, count in ((space.random_choices, wanted - light), (space.light_choices, wanted)):
        for _ in range(_ROUNDS):
            for row in draw(wanted, generator):
                if len(networks) < count:
                    network = space.network(row.tolist())
                    networks.setdefault(network.ops, network)
    found = list(networks.values())[::-1]
    share = round(len(found) * CALIBRATION_NETWORKS / wanted)
    return found[:share], found[share:]


def _journal_path(path: Path, device: str, what: str) -> Path:
    """The journal of what is measured on a device, beside the table `path`."""
    return path.with_name(f"{path.stem}.on-{device}.{slug(what)}.journal")


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
