"""The latency tables of targets."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from latency.errors import LatError, UsageError
from latency.tables.table import LatencyTable
from search.console import notice
from search.jobs.target_names import is_table, require_known


def table_of(target: str) -> LatencyTable:
    """The latency table of a target: a table by its path or stem, or that of a device card as
    `search.jobs.targets.resolve` finds it. Raises `UsageError` for an unknown target and for one
    without a table."""
    require_known(target)
    if is_table(target):
        return LatencyTable.load(target)
    from search.jobs.targets import resolve  # loads onnx, which a table does not need

    table = resolve(target).table
    if table is None:
        raise UsageError(
            f"no measurements of {target} yet; measure it: lat-profile --device {target}"
        )
    return table


def readable_tables(paths: Iterable[Path]) -> Iterator[LatencyTable]:
    """The tables of these files; a notice names each one that cannot be read."""
    for path in paths:
        try:
            yield LatencyTable.load(path)
        except LatError as error:
            notice(str(error))
