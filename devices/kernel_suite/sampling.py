"""Sampling: kernels with the highest expected error are measured next.

Rows are predicted by a model that is fitted without them; these errors show where latency is hard
to predict. The expected error of a kernel is the error of similar kernels, times its share of a
network's time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.features import Neighbours, kernel_families, kernel_family
from latency.operators.spec import OpSpec
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable

_FOLDS = 4


def expected_errors(
    table: LatencyTable, networks: Sequence[KernelGraph]
) -> list[dict[OpSpec, float]]:
    """For each network, the expected contribution of each missing kernel to the relative error of
    its prediction."""
    near = _Near(left_out_errors(table))
    model = fit(table, extrapolate=True)
    found = []
    for network in networks:
        prediction = model.predict(network)
        ms: dict[OpSpec, float] = {}
        for part in prediction.per_op:
            if part.op not in table:
                ms[part.op] = ms.get(part.op, 0.0) + part.ms
        found.append({op: near.error(op) * taken / prediction.ms for op, taken in ms.items()})
    return found


def left_out_errors(table: LatencyTable, seed: int = 0) -> dict[OpSpec, float]:
    """The absolute log error of each row, predicted from the other folds."""
    ops = sorted(table, key=lambda op: op.key)
    folds = np.random.default_rng(seed).permutation(len(ops)) % _FOLDS
    found = {}
    for fold in range(_FOLDS):
        left_out = [op for op, own in zip(ops, folds, strict=True) if own == fold]
        rows = {op: table[op] for op, own in zip(ops, folds, strict=True) if own != fold}
        model = fit(replace(table, rows=rows), extrapolate=True)
        asked = KernelGraph("left out", tuple(Kernel(op, ()) for op in left_out))
        for part in model.predict(asked).per_op:
            found[part.op] = abs(float(np.log(part.ms / table[part.op].median_ms)))
    return found


class _Near:
    """The errors of similar operators of the same family."""

    def __init__(self, errors: Mapping[OpSpec, float]) -> None:
        self._families = {
            name: (Neighbours(ops), np.array([errors[op] for op in ops]))
            for name, ops in kernel_families(errors).items()
        }
        self._usual = float(np.mean(list(errors.values())))

    def error(self, op: OpSpec) -> float:
        """The mean over its family, weighted by similarity; over all without a family."""
        if kernel_family(op) not in self._families:
            return self._usual
        neighbours, errors = self._families[kernel_family(op)]
        weights = np.exp(-neighbours.distances(op))
        return float(weights @ errors / weights.sum())
