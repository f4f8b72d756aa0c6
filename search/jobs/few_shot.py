"""A table from a few networks measured on a device, and from the tables of other devices."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from devices.device import Workload
from devices.measuring.rounds import Measured, measure
from latency.errors import CoverageError, DeviceError, UsageError
from latency.tables.library import known_tables
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.transfer.table import FEWEST, Pool, choose, transfer
from search.console import notice
from search.jobs.bench import Bench
from search.jobs.profiling import circumstances, keep, recording
from search.jobs.target_tables import readable_tables
from search.space import SearchSpace

POOL_NETWORKS = 1500
"""Random networks that represent the space."""


def profile_few_shot(
    bench: Bench,
    chosen: Sequence[SearchSpace],
    networks: int,
    sources: Sequence[str] = (),
    *,
    resume: bool,
    quiet: bool,
) -> LatencyTable:
    """Measure the most informative `networks` of each space on the first device, and predict the
    rest from the tables `sources` of other devices (`sources_of`). The table, marked as
    transferred, is merged into the one at `bench.path`. Returns it as written.

    Raises `UsageError` if there are no sources, if `networks` is too small or if the space is
    measured already, and `DeviceError` if too few networks could be measured.
    """
    for space in chosen:
        known = LatencyTable.load(bench.path) if bench.path.exists() else None
        if known and (space.tag in known.calibrations or _covers(known, space)):
            raise UsageError(
                f"{bench.path} has measurements of every operator of {space.tag}, which a transfer "
                "does not replace; write to another file: `out` FILE.csv"
            )
        pool = pool_of(space, sources_of(space, bench.device.setting, sources))
        positions = choose(pool, networks)
        notice(f"{networks} networks of {space.tag} are measured; the rest is predicted from:")
        for source in pool.sources:
            notice(f"  {source.source}")
        workloads = [Workload.of_network(pool.networks[i]) for i in positions]
        with recording(bench, f"{space.tag}.few-shot", resume, quiet) as (journal, show):
            measured = measure(bench.device, workloads, bench.card.measuring, journal, show)
            kept = keep(_transferred(bench, space, pool, positions, measured), bench.path)
    return kept


def _transferred(
    bench: Bench, space: SearchSpace, pool: Pool, positions: Sequence[int], measured: Measured
) -> LatencyTable:
    names = {i: pool.networks[i].name for i in positions}
    rows = {i: measured.rows[name] for i, name in names.items() if name in measured.rows}
    if len(rows) < FEWEST:
        name, error = next(iter(measured.failures.items()))
        raise DeviceError(
            f"{len(rows)} of {len(positions)} networks could be measured, {FEWEST} are needed; "
            f"{name}: {error}"
        )
    table = transfer(pool, rows, bench.device.setting, space.tag, circumstances(bench.card))
    return replace(table, measured={space.tag: measured.happened}, failed=measured.failures)


def sources_of(
    space: SearchSpace, setting: Setting, named: Sequence[str] = ()
) -> tuple[LatencyTable, ...]:
    """The tables to predict a device in `setting` from.

    Those `named`; by default all known tables that cover the space with measured rows in another
    setting. Raises `UsageError` if there is none or if a named one is of this setting, and
    `CoverageError` if a named one does not cover the space.
    """
    if named:
        tables = tuple(LatencyTable.load(name) for name in dict.fromkeys(named))
        for table in tables:
            if table.setting.identity == setting.identity:
                raise UsageError(
                    f"`sources` {table.source}: this is a table of the device that is to be "
                    "predicted; name tables of other devices"
                )
            if missing := table.missing(space.operators):
                raise CoverageError(
                    (op.key for op in missing),
                    f"`sources` {table.source}",
                    f"measure them: lat-profile --device {table.setting.device} --space "
                    f"{space.arguments}",
                )
        return tables
    found = tuple(
        table
        for table in readable_tables(known_tables().values())
        if table.setting.identity != setting.identity and _covers(table, space)
    )
    if not found:
        raise UsageError(
            f"no table of another device covers {space.tag} at batch "
            f"{space.operators[0].batch}: profile another device on it first (lat-profile "
            f"--device CARD --space {space.arguments}), or name its table: `sources` TABLE"
        )
    return found


def pool_of(
    space: SearchSpace, sources: tuple[LatencyTable, ...], count: int = POOL_NETWORKS, seed: int = 0
) -> Pool:
    """Random networks of a space, all different, with the tables that predict them."""
    choices = space.random_choices(count, np.random.default_rng(seed))
    networks = [space.network(row.tolist()) for row in choices]
    kept = list({network.ops: i for i, network in enumerate(networks)}.values())
    one_hots = [
        np.eye(candidates)[choices[kept, block]] for block, candidates in enumerate(space.counts)
    ]
    return Pool(tuple(networks[i] for i in kept), np.hstack(one_hots), sources)


def _covers(table: LatencyTable, space: SearchSpace) -> bool:
    return all(op in table and not table[op].is_transferred for op in space.operators)
