"""Profile spaces and the suite of kernels: journals, progress bar, table."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from glob import escape
from pathlib import Path

import numpy as np

from devices.card import DeviceCard
from devices.device import Device, Workload
from devices.kernel_suite.suite import profile_kernels
from devices.measuring.journal import Journal
from devices.measuring.rounds import OnProgress, measure
from devices.profiling import profile
from latency import machine
from latency.errors import DeviceError, TableError
from latency.graphs.fusion import SUITE
from latency.locked_file import locked
from latency.names import slug
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.table import LatencyTable
from search import spaces
from search.console import following, notice, progress_bar, version
from search.jobs.bench import Bench
from search.space import SearchSpace

CALIBRATION_NETWORKS = 16
HELD_OUT_NETWORKS = 12
_ROUNDS = 20
"""Draws of networks, after which a space is assumed to have no others."""


@dataclass(frozen=True)
class Journals:
    """The files of a run's samples: `own`, one for each device. `absent`: those of an earlier run
    on devices of the same card that are not used now."""

    own: tuple[Journal, ...]
    absent: tuple[Journal, ...]

    def remove(self) -> None:
        """Delete all of them, once their samples are in a table."""
        for journal in (*self.own, *self.absent):
            journal.remove()


def load_spaces(
    names: Sequence[str] | None,
    batch: int,
    resolution: int | None = None,
    width: float = 1.0,
    classes: int | None = None,
) -> list[SearchSpace]:
    """The spaces of these names or files, by default "proxyless", each with its own resolution and
    number of classes if they are None."""
    options = {"resolution": resolution, "width": width, "classes": classes, "batch": batch}
    given = {name: value for name, value in options.items() if value is not None}
    return [spaces.load(name, **given) for name in names or ("proxyless",)]


def profile_spaces(
    bench: Bench, chosen: Sequence[SearchSpace], *, resume: bool, quiet: bool
) -> LatencyTable:
    """Measure every operator of spaces and a sample of their networks. After each space, the table
    is merged into the one at `bench.path`. Returns it as written.

    The journals stay until the last space is done, so that a resumed run measures nothing again.
    """
    with ExitStack() as stack:
        opened = []
        for space in {space.tag: space for space in chosen}.values():
            journals = stack.enter_context(journaled(bench.devices, bench.path, resume, space.tag))
            opened.append(journals)
            calibration, held_out = sample_networks(space)
            with progress_bar(quiet) as bar:
                table = profile(
                    bench.devices,
                    space.operators,
                    calibration,
                    held_out,
                    space=space.tag,
                    measuring=bench.card.measuring,
                    journals=journals.own,
                    circumstances=circumstances(bench.card),
                    on_progress=following(bar),
                    absent=journals.absent,
                )
            kept = keep(table, bench.path)
        for journals in opened:
            journals.remove()
    return kept


def profile_suite(bench: Bench, *, resume: bool, quiet: bool) -> LatencyTable:
    """Measure the kernels of CNNs on the first device, and merge them into the table at
    `bench.path`. Returns the table as written."""
    with recording(bench, SUITE, resume, quiet) as (journal, show):
        measuring = bench.card.measuring
        table = profile_kernels(bench.device, measuring, journal, circumstances(bench.card), show)
        with locked(bench.path):
            _merged(table, bench.path).save(bench.path)
            return LatencyTable.load(bench.path)


def _merged(table: LatencyTable, path: Path) -> LatencyTable:
    """The table merged with the one at `path`. Rows of an earlier suite are replaced, other rows
    stay as they are."""
    if not path.exists():
        return table
    known = LatencyTable.load(path)
    others = {op: row for op, row in known.rows.items() if not row.is_of_suite}
    own = {op: row for op, row in table.rows.items() if op not in others}
    return replace(known, rows=others).merge(replace(table, rows=own))


@contextmanager
def journaled(devices: Sequence[Device], path: Path, resume: bool, what: str) -> Iterator[Journals]:
    """Journals for measuring `what`, beside the table `path`. Those of an unfinished run are
    continued if `resume`, else set aside with a notice. Raises `TableError` if the table is of
    another setting than the devices."""
    setting = devices[0].setting
    if path.exists():
        try:
            LatencyTable.load(path).require_setting(setting)
        except TableError as error:
            raise TableError(f"{error}; write to another file") from None
    own = [_journal_path(path, slug(device.label), what) for device in devices]
    named = _journal_path(Path(escape(path.name)), "*", what).name
    absent = [found for found in sorted(path.parent.glob(named)) if found not in own]
    with ExitStack() as stack:
        opened = [stack.enter_context(Journal(name, setting, resume)) for name in (*own, *absent)]
        for journal in opened:
            for note in journal.notes:
                notice(note)
        yield Journals(tuple(opened[: len(own)]), tuple(opened[len(own) :]))


@contextmanager
def recording(
    bench: Bench, what: str, resume: bool, quiet: bool
) -> Iterator[tuple[Journal, OnProgress]]:
    """The journal, which is deleted at the end, and the progress of measuring `what` on the first
    device."""
    with (
        journaled([bench.device], bench.path, resume, what) as journals,
        progress_bar(quiet) as bar,
    ):
        yield journals.own[0], following(bar)
        journals.remove()


def measure_missing(
    bench: Bench, table: LatencyTable, tag: str, missing: Sequence[OpSpec]
) -> LatencyTable:
    """Measure operators that are missing from a table, and write it with them to `bench.path`,
    calibrated as the space `tag`. Raises `DeviceError` if one could not be measured, after the
    others are written."""
    with recording(bench, f"{tag}.missing", resume=True, quiet=False) as (journal, show):
        table, failures = measure_operators(bench, table, tag, missing, journal, show)
    for name, error in failures.items():
        raise DeviceError(
            f"{len(failures)} of {len(missing)} operator(s) could not be measured; the first, "
            f"{name}: {error}; the others are in {bench.path}"
        )
    return table


def measure_operators(
    bench: Bench,
    table: LatencyTable,
    tag: str | None,
    ops: Sequence[OpSpec],
    journal: Journal | None = None,
    show: OnProgress = lambda progress: None,
) -> tuple[LatencyTable, Mapping[str, str]]:
    """Measure operators, calibrated as the space `tag` or as measured alone, and merge them with a
    table at `bench.path`. Returns the merged table, and the errors of operators by key."""
    workloads = [Workload.of_op(op) for op in ops]
    measured = measure(bench.device, workloads, bench.card.measuring, journal, show)
    rows = {op: measured.rows[op.key] for op in ops if op.key in measured.rows}
    inside = {}
    if tag is not None:
        inside_of = table.calibrations[tag].in_network_ms
        inside = {op: inside_of(op, row.median_ms) for op, row in rows.items()}
    if rows or table.rows:
        fresh = LatencyTable(
            bench.device.setting,
            rows,
            inside,
            failed=measured.failures,
            circumstances=circumstances(bench.card) if rows else {},
        )
        table = keep(fresh, bench.path, table)
    return table, measured.failures


def keep(table: LatencyTable, path: Path, known: LatencyTable | None = None) -> LatencyTable:
    """Write a table to `path`, merged with the rows that are there by now and, with the lowest
    precedence, those `known` before. Returns the table as written."""
    with locked(path):
        there = LatencyTable.load(path) if path.exists() else None
        tables = (one for one in (known, there, table) if one is not None)
        reduce(LatencyTable.merge, tables).save(path)
        return LatencyTable.load(path)


def sample_networks(space: SearchSpace) -> tuple[list[NetworkSpec], list[NetworkSpec]]:
    """The random networks that a profile measures, all different: those for calibration, and those
    held out; fewer of each, in the same ratio, if the space has too few.

    Half of those for calibration are of all sizes: a search looks for fast networks, and uniformly
    drawn networks are about equally slow.
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
    return path.with_name(f"{path.stem}.on-{device}.{slug(what)}.journal")


def circumstances(card: DeviceCard) -> dict[str, str]:
    """When and how a table was measured, for its header."""
    found = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "tool": f"lat-search {version()}",
        "interval asked": f"{card.measuring.ci95:g}",
    }
    if card.transport == "local":
        found |= {"clock": machine.clock(), "load": f"{os.getloadavg()[0]:.2f}"}
    return found
