"""The latency table of a target."""

from collections.abc import Iterable
from pathlib import Path

from latency.errors import DeviceError, LatError, UsageError
from latency.tables.library import tables_named, tables_of
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable
from search.console import notice
from search.jobs.target_names import is_table, require_known


def table_of(target: str) -> LatencyTable:
    """The latency table of a target: a table by its path or stem, or that of a device card.

    The table of a card is that of its device as it is set up now. The device is asked for its
    setting once, and only if there is a table of the card; if it cannot be reached, its newest
    table is used. Raises `UsageError` for an unknown target and for one without a table.
    """
    require_known(target)
    if is_table(target):
        return LatencyTable.load(target)
    from devices.card import load_card  # these load onnx, which a table does not need
    from search.jobs.bench import reachable

    card = load_card(target)
    table = None
    if any(tables_named(card.name)):
        try:
            setting = reachable(card)[0].setting
        except LatError as error:
            return LatencyTable.load(out_of_reach(target, card.name, error))
        paths = tables_of(setting.device, setting.hardware)
        table = merged(list(map(LatencyTable.load, paths)), setting)
    if table is None:
        raise UsageError(
            f"no measurements of {target} yet; measure it: lat-profile --device {target}"
        )
    return table


def merged(tables: Iterable[LatencyTable], setting: Setting) -> LatencyTable | None:
    """One table of those measured in a setting; `tables` are sorted from new to old, and the newest
    measurement of an operator counts. A notice names each table of another setting (of another
    version of the runtime, for example). None if no table is left.
    """
    found: LatencyTable | None = None
    for table in reversed(list(tables)):
        if table.setting.identity != setting.identity:
            notice(f"{table.source} is of another setting ({table.setting.runtime}): not used")
        else:
            found = found.merge(table) if found else table
    return found


def out_of_reach(target: str, card: str, why: LatError) -> Path:
    """The newest table of a card whose device cannot be reached, with a notice. Raises
    `DeviceError` if there is none."""
    path = next(tables_of(card), None)
    if path is None:
        raise DeviceError(
            f"{target} cannot be reached ({why}), and there is no table of it. "
            f"Two ways out: make it reachable and run lat-profile --device {target}; or import "
            "a published table (lat-table import --format proxylessnas|ofa FILE "
            f"--device {card} --out FILE.csv) and name the file as the target"
        ) from None
    notice(f"{target} cannot be reached ({why}): using its table {path}")
    return path
