"""Profile the suite of kernels: journal, progress bar, table."""

from dataclasses import replace
from pathlib import Path

from devices.kernel_suite.suite import profile_kernels
from latency.graphs.fusion import SUITE
from latency.locked_file import locked
from latency.tables.table import LatencyTable
from search.console import following, progress_bar
from search.jobs.bench import Bench
from search.jobs.profiling import circumstances, journaled


def profile_suite(bench: Bench, *, resume: bool, quiet: bool) -> LatencyTable:
    """Measure the kernels of CNNs on the first device, and merge them into the table at
    `bench.path`. Returns the table as written."""
    with (
        journaled([bench.device], bench.path, resume, SUITE) as journals,
        progress_bar(quiet) as bar,
    ):
        table = profile_kernels(
            bench.device,
            bench.card.measuring,
            journals.own[0],
            circumstances(bench.card),
            following(bar),
        )
        with locked(bench.path):
            _merged(table, bench.path).save(bench.path)
            kept = LatencyTable.load(bench.path)
        journals.remove()
    return kept


def _merged(table: LatencyTable, path: Path) -> LatencyTable:
    """The table merged with the one at `path`. Rows of an earlier suite are replaced, other rows
    stay as they are."""
    if not path.exists():
        return table
    known = LatencyTable.load(path)
    others = {op: row for op, row in known.rows.items() if not row.is_of_suite}
    own = {op: row for op, row in table.rows.items() if op not in others}
    return replace(known, rows=others).merge(replace(table, rows=own))
