"""From the name of a target to its latency table and, if it can be reached, its device."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from devices.card import load_card
from devices.cards import known_cards
from devices.device import Device
from latency.errors import CoverageError, DeviceError, LatError
from latency.tables.library import find_table, shipped_folder, tables_of
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from search.console import notice
from search.jobs.bench import Bench, open_bench
from search.jobs.profiling import measure_missing, profile_spaces
from search.jobs.target_names import is_card, require_known
from search.space import SearchSpace


@dataclass(frozen=True)
class Target:
    """What a search, a comparison or a prediction is for: a latency table, a device to measure on,
    or both. `table` is None if there is none yet, `bench` if no device can be reached."""

    name: str
    table: LatencyTable | None
    bench: Bench | None = None

    @property
    def device(self) -> Device | None:
        """The device, or the first of several; None if none can be reached."""
        return self.bench.device if self.bench else None

    @property
    def batch(self) -> int:
        """Inputs per run."""
        if self.bench is not None:
            return self.bench.card.batch
        return self.table.setting.batch if self.table else 1


def resolve(name: str) -> Target:
    """The target `name`: a device card, a table's stem, or a path to either.

    If a card's device cannot be reached, the target is its newest table. The target of a table has
    the device of its card, if that can be reached and has the same setting now. Raises `UsageError`
    that lists the known names, and `DeviceError` if there is neither device nor table.
    """
    require_known(name)
    table = None if is_card(name) else LatencyTable.load(name)
    if table is not None and table.setting.device not in known_cards():
        return Target(name, table)
    card = load_card(name if table is None else table.setting.device)
    try:
        bench = open_bench(card)
        setting = bench.device.setting
    except LatError as error:
        return Target(name, _newest_table(name, card.name, error) if table is None else table)
    if table is None:
        tables = map(LatencyTable.load, tables_of(setting.device, setting.hardware))
        return Target(name, _merged(tables, setting), bench)
    if setting.identity != table.setting.identity:
        return Target(name, table)
    path = find_table(name)
    is_shipped = path.is_relative_to(shipped_folder())
    return Target(name, table, bench if is_shipped else replace(bench, path=path))


def _merged(tables: Iterable[LatencyTable], setting: Setting) -> LatencyTable | None:
    """One table of those measured in a setting; `tables` are sorted from new to old, and the newest
    measurement of an operator counts. A notice names each table of another setting. None if no
    table is left."""
    found: LatencyTable | None = None
    for table in reversed(list(tables)):
        if table.setting.identity != setting.identity:
            notice(f"{table.source} is of another setting ({table.setting.runtime}): not used")
        else:
            found = found.merge(table) if found else table
    return found


def _newest_table(target: str, card: str, error: LatError) -> LatencyTable:
    """The newest table of a card whose device cannot be reached, with a notice."""
    path = next(tables_of(card), None)
    if path is None:
        raise DeviceError(
            f"{target} cannot be reached ({error}), and there is no table of it. "
            f"Two ways out: make it reachable and run lat-profile --device {target}; or import "
            "a published table (lat-table import --format proxylessnas|ofa FILE "
            f"--device {card} --out FILE.csv) and name the file as the target"
        ) from None
    notice(f"{target} cannot be reached ({error}): using its table {path}")
    return LatencyTable.load(path)


def covered(target: Target, space: SearchSpace, quiet: bool) -> LatencyTable:
    """The target's table with every operator of the space in it.

    Missing operators are measured if the device can be reached, and written to the user's table.
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
            "its device cannot be reached to measure them: run lat-profile --device "
            f"{table.setting.device} --space {space.arguments} there, or predict them: `predicted`",
        )
    if table is None or space.tag not in table.calibrations:
        notice(f"no measurements of {space.tag} on {target.name} yet: profiling it first")
        return profile_spaces(bench, [space], resume=True, quiet=quiet)
    notice(
        f"{len(missing)} operator(s) of {space.tag} are missing from {table.source}: measuring them"
    )
    return measure_missing(bench, table, space.tag, missing)
