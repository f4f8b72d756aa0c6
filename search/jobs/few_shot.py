"""A table from a few networks measured on a device, and from the tables of other devices."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from devices.card import DeviceCard
from devices.device import Device, Workload
from devices.measuring.rounds import measure
from latency.errors import CoverageError, DeviceError, LatError, UsageError
from latency.tables.library import known_tables
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from latency.transfer.table import FEWEST, Pool, choose, transfer
from search.console import following, notice, progress_bar
from search.jobs.profiling import circumstances, journaled, keep
from search.space import SearchSpace

POOL_NETWORKS = 1500
"""Random networks that stand for the space."""


def few_shot_space(
    card: DeviceCard,
    device: Device,
    space: SearchSpace,
    path: Path,
    n: int,
    named: Sequence[str],
    resume: bool,
    quiet: bool,
) -> LatencyTable:
    """Measure the `n` most telling networks of a space on one device, predict the rest from other
    devices' tables, and write a table that is marked as transferred to `path`, beside the rows
    that are there already. Returns the table as written.

    `named`: the tables to predict from; if none are, all in reach that cover the space
    (`sources_of`). Raises `UsageError` where there is none, where `n` is too small, and where the
    space is measured already; `DeviceError` where too few networks could be measured.
    """
    if path.exists():
        _require_unmeasured(LatencyTable.load(path), space)
    sources = sources_of(space, device.setting, named)
    pool = pool_of(space, sources)
    chosen = choose(pool, n)
    notice(f"{n} networks of {space.tag} are measured; the rest is predicted from:")
    for source in sources:
        notice(f"  {source.source}")
    networks = [pool.networks[i] for i in chosen]
    what = f"{space.tag}.few-shot"
    with journaled([device], path, resume, what) as journals, progress_bar(quiet) as bar:
        measured = measure(
            device,
            [Workload.of_network(network) for network in networks],
            card.measuring,
            journals.own[0],
            following(bar),
        )
        rows = {
            i: measured.rows[network.name]
            for i, network in zip(chosen, networks, strict=True)
            if network.name in measured.rows
        }
        if len(rows) < FEWEST:
            name, error = next(iter(measured.failures.items()))
            raise DeviceError(
                f"{len(rows)} of {n} networks could be measured, {FEWEST} are needed; {name}: "
                f"{error}; see what the device lacks: lat-profile --device {card.words} --check"
            )
        happened = "; ".join(f"{what}: {said}" for what, said in measured.circumstances.items())
        failed = {f"failed {name}": error for name, error in measured.failures.items()}
        said = {**circumstances(card), f"measured {space.tag}": happened, **failed}
        kept = keep(transfer(pool, rows, device.setting, space.tag, said), path)
        journals.remove()
    return kept


def sources_of(
    space: SearchSpace, setting: Setting, named: Sequence[str] = ()
) -> tuple[LatencyTable, ...]:
    """The tables to predict a device in `setting` from.

    Those `named`; or of all known tables those that cover the space with measured rows in any
    other setting. Raises `UsageError` where there is none, or where one that is named is of this
    very setting, and `CoverageError` where one that is named does not cover the space.
    """
    if named:
        return tuple(_named_source(name, space, setting) for name in dict.fromkeys(named))
    found = tuple(
        table
        for table in _readable(known_tables().values())
        if table.setting.identity != setting.identity and _covers(table, space)
    )
    if not found:
        raise UsageError(
            f"no table of another device covers {space.tag} at batch "
            f"{space.operators[0].batch}: profile another device on it first (lat-profile "
            f"--device CARD --space {space.words}), or name its table: --from TABLE"
        )
    return found


def pool_of(
    space: SearchSpace, sources: tuple[LatencyTable, ...], count: int = POOL_NETWORKS, seed: int = 0
) -> Pool:
    """Random networks of a space, no two alike, as the sources know them."""
    choices = space.random_choices(count, np.random.default_rng(seed))
    networks = [space.network(row.tolist()) for row in choices]
    kept = list({network.ops: i for i, network in enumerate(networks)}.values())
    one_hots = [
        np.eye(candidates)[choices[kept, block]] for block, candidates in enumerate(space.counts)
    ]
    return Pool(tuple(networks[i] for i in kept), np.hstack(one_hots), sources)


def _named_source(name: str, space: SearchSpace, setting: Setting) -> LatencyTable:
    table = LatencyTable.load(name)
    if table.setting.identity == setting.identity:
        raise UsageError(
            f"--from {name}: this is a table of the very device that is to be predicted; name "
            "tables of other devices"
        )
    if lacking := table.missing(space.operators):
        raise CoverageError(
            (op.key for op in lacking),
            f"--from {name}: the table",
            f"name tables that cover {space.tag}: lat-profile --device "
            f"{table.setting.device} --space {space.words} makes this one do so",
        )
    return table


def _covers(table: LatencyTable, space: SearchSpace) -> bool:
    """Whether all operators of a space were measured."""
    return all(op in table and not table[op].is_transferred for op in space.operators)


def _readable(paths: Iterable[Path]) -> Iterable[LatencyTable]:
    for path in paths:
        try:
            yield LatencyTable.load(path)
        except LatError as error:
            notice(str(error))


def _require_unmeasured(table: LatencyTable, space: SearchSpace) -> None:
    if space.tag in table.calibrations or _covers(table, space):
        raise UsageError(
            f"{table.source} has {space.tag} measured operator by operator, which a transfer "
            "would not replace; write to another place: --out TABLE"
        )
