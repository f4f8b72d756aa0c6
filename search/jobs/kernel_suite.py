"""The suite of kernels on a device: journal, progress, and the table kept."""

from dataclasses import replace
from pathlib import Path

from devices.card import DeviceCard
from devices.device import Device
from devices.kernel_suite.suite import profile_kernels
from latency.graphs.fusion import SUITE
from latency.locked_file import locked
from latency.tables.table import LatencyTable
from search.console import following, progress_bar
from search.jobs.profiling import circumstances, journaled


def profile_suite(
    card: DeviceCard, device: Device, path: Path, resume: bool, quiet: bool
) -> LatencyTable:
    """Measure the kernels of CNNs; write them to `path`, beside the rows that are there already.
    Returns the table as written."""
    with journaled([device], path, resume, SUITE) as journals, progress_bar(quiet) as bar:
        table = profile_kernels(
            device,
            card.measuring,
            journals.own[0],
            circumstances(card),
            following(bar),
        )
        with locked(path):
            _beside(table, path).save(path)
            kept = LatencyTable.load(path)
        journals.remove()
    return kept


def _beside(table: LatencyTable, path: Path) -> LatencyTable:
    """The table beside the rows that the one at `path` has from elsewhere, which stay as they are;
    those of a suite before are replaced."""
    if not path.exists():
        return table
    known = LatencyTable.load(path)
    others = {op: row for op, row in known.rows.items() if not row.is_of_suite}
    own = {op: row for op, row in table.rows.items() if op not in others}
    return replace(known, rows=others).merge(replace(table, rows=own))
