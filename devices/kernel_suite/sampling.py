"""Which kernels to measure next: those with the highest expected error.

Each row is predicted by a model that is fitted without it; these errors show where latency is hard
to predict. The expected error of a kernel is the error of similar kernels, times its share of a
network's latency.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.features import Neighbours, kernel_families, kernel_family
from latency.operators.spec import OpSpec
from latency.predictors.regression import fit, operators_of
from latency.tables.table import LatencyTable

_FOLDS = 4


def expected_errors(
    table: LatencyTable, networks: Sequence[KernelGraph]
) -> list[dict[OpSpec, float]]:
    """For each network, the expected contribution of each missing kernel to the relative error of
    its prediction. The error of a kernel is the mean of its family's rows, weighted by similarity;
    of all rows if its family has none."""
    errors = left_out_errors(table)
    families = {
        name: (Neighbours(ops), np.array([errors[op] for op in ops]))
        for name, ops in kernel_families(errors).items()
    }

    def error(op: OpSpec) -> float:
        if kernel_family(op) not in families:
            return float(np.mean(list(errors.values())))
        neighbours, of_neighbours = families[kernel_family(op)]
        weights = np.exp(-neighbours.distances(op))
        return float(weights @ of_neighbours / weights.sum())

    operators = [op for network in networks for op in operators_of(network)]
    model = fit(table, extrapolate=True, operators=operators)
    found = []
    for network in networks:
        prediction = model.predict(network)
        ms: dict[OpSpec, float] = {}
        for part in prediction.per_op:
            if part.op not in table:
                ms[part.op] = ms.get(part.op, 0.0) + part.ms
        found.append({op: error(op) * taken / prediction.ms for op, taken in ms.items()})
    return found


def left_out_errors(table: LatencyTable) -> dict[OpSpec, float]:
    """The absolute log error of each row, predicted from the other folds."""
    ops = sorted(table, key=lambda op: op.key)
    folds = np.random.default_rng(0).permutation(len(ops)) % _FOLDS
    found = {}
    for fold in range(_FOLDS):
        left_out = [op for op, own in zip(ops, folds, strict=True) if own == fold]
        rows = {op: table[op] for op, own in zip(ops, folds, strict=True) if own != fold}
        model = fit(replace(table, rows=rows), extrapolate=True, operators=left_out)
        graph = KernelGraph("left out", tuple(Kernel(op, ()) for op in left_out))
        for part in model.predict(graph).per_op:
            found[part.op] = abs(float(np.log(part.ms / table[part.op].median_ms)))
    return found
