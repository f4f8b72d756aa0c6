"""The suite of kernels on a device: journal, progress, and the table kept."""

from dataclasses import replace
from pathlib import Path

from devices.card import DeviceCard
from devices.device import Device
from devices.kernel_suite import profile_kernels
from latency.kernels import SUITE
from latency.measurement import INSIDE_NETWORKS, SUITE_ALONE
from latency.table import LatencyTable
from search.commands.console import progress_bar
from search.commands.profile_job import circumstances, journaled, keep


def profile_suite(
    card: DeviceCard, device: Device, path: Path, resume: bool, quiet: bool
) -> LatencyTable:
    """Measure the kernels of CNNs; write them to `path`, beside the rows that are there already
    (where one of those is a kernel too, it stays). Returns the table as written."""
    journal_path = path.with_name(f"{path.stem}.{SUITE}.csv")
    with journaled([device], journal_path, resume) as journals, progress_bar(quiet) as bar:
        task = bar.add_task("drawing random networks", total=None)
        table = profile_kernels(
            device,
            card.measuring,
            journals[0],
            circumstances(card),
            lambda p: bar.update(task, description=p.doing, completed=p.done, total=p.total),
        )
        kept = keep(_beside(table, path), path)
        journals[0].remove()
    return kept


def _beside(table: LatencyTable, path: Path) -> LatencyTable:
    """The table without rows that the one at `path` has from elsewhere."""
    if not path.exists():
        return table
    ours = (INSIDE_NETWORKS, SUITE_ALONE)
    others = {op for op, row in LatencyTable.load(path).rows.items() if row.note not in ours}
    return replace(table, rows={op: row for op, row in table.rows.items() if op not in others})
