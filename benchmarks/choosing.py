"""What it is worth to choose where the suite of kernels measures next."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from figure import Figure

from devices.card import load_card
from devices.connection import connect
from devices.kernel_suite.random_cnns import draw_networks
from devices.kernel_suite.sampling import expected_errors
from latency import LatencyTable, fit
from latency.graphs.kernels import KernelGraph

_SEEDS, _DRAWN = 16, 130
_HELD_OUT, _FIRST, _IN_ALL = 20, 18, 32


def choosing() -> Iterator[Figure]:
    """Networks held out are predicted from a suite of as many others, the last of which are drawn
    evenly, or chosen; simulated with the kernels of the shipped table of this machine."""
    table = LatencyTable.load(connect(load_card("cpu")).setting.stem)
    inside = {op: row for op, row in table.rows.items() if row.is_inside}
    drawn = [network.graph for network in draw_networks(_DRAWN, table.fusion_rules)]
    graphs = [graph for graph in drawn if inside.keys() >= {*graph.ops}]
    table = replace(table, rows=inside, in_network_ms={}, calibrations={}, validations={})
    errors = np.array([_errors(table, graphs, seed) for seed in range(_SEEDS)])
    even, chosen = 100 * errors.mean(0)
    gain = 100 * (errors[:, 0] - errors[:, 1])
    yield Figure("mean error on networks held out, suite drawn evenly", float(even), unit="%")
    yield Figure("  its last networks chosen", float(chosen), unit="%")
    yield Figure("  less by", float(gain.mean()), least=0.0, unit="points")
    yield Figure("  standard error", float(gain.std(ddof=1) / _SEEDS**0.5), unit="points")


def _errors(table: LatencyTable, graphs: Sequence[KernelGraph], seed: int) -> tuple[float, float]:
    """Mean error of a suite drawn evenly, and of one whose last networks are chosen."""
    order = np.random.default_rng(seed).permutation(len(graphs))
    held_out, pool = order[:_HELD_OUT], order[_HELD_OUT:].tolist()
    first, rest = pool[:_FIRST], pool[_FIRST:]
    known = _of(table, [graphs[i] for i in first])
    found = expected_errors(known, [graphs[i] for i in rest])
    hardest = sorted(range(len(rest)), key=lambda i: -sum(found[i].values()))
    more = _IN_ALL - _FIRST
    suites = (pool[:_IN_ALL], first + [rest[i] for i in hardest[:more]])
    unseen = [graphs[i] for i in held_out]
    even, chosen = (_error(table, [graphs[i] for i in suite], unseen) for suite in suites)
    return even, chosen


def _error(
    table: LatencyTable, suite: Sequence[KernelGraph], unseen: Sequence[KernelGraph]
) -> float:
    model = fit(_of(table, suite), extrapolate=True)
    truth = [sum(table[op].median_ms for op in graph.ops) for graph in unseen]
    predicted = np.array([model.predict(graph).ms for graph in unseen])
    return float(np.abs(predicted / truth - 1).mean())


def _of(table: LatencyTable, suite: Sequence[KernelGraph]) -> LatencyTable:
    """The rows of the kernels of these networks."""
    ops = {op for graph in suite for op in graph.ops}
    return replace(table, rows={op: row for op, row in table.rows.items() if op in ops})


BENCHMARKS = {"choosing": choosing}
