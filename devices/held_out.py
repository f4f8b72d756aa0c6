"""How far a table of kernels is off on networks that it was not fitted on."""

from collections.abc import Sequence
from dataclasses import replace

from latency.calibration import validate
from latency.kernels import SUITE, KernelGraph
from latency.regression import fit
from latency.table import LatencyTable


def validated(table: LatencyTable, unseen: Sequence[tuple[KernelGraph, float]]) -> LatencyTable:
    """The table with its error on networks of so many ms."""
    model = fit(table, extrapolate=True)
    predicted = [model.predict(graph).ms for graph, _ in unseen]
    return replace(table, validations={SUITE: validate(predicted, [ms for _, ms in unseen])})
