"""Measuring a space's operators during the search, the most important ones first."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from latency.candidates import CandidateLatency, candidate_latency
from latency.errors import DeviceError, UsageError
from latency.graphs.fusion import SUITE
from latency.operators.spec import OpSpec
from latency.predictors.regression import RegressionModel, fit
from latency.stats import Z95
from latency.tables.table import LatencyTable
from search.budget import Budget
from search.console import notice
from search.jobs.profiling import measure_operators
from search.jobs.targets import Target
from search.space import SearchSpace
from search.supernet.supernet import SuperNet

_ENOUGH = 0.002
"""Measuring ends when no operator's standard deviation times its probability is more than this
share of the fastest network's latency."""


class AsYouGo:
    """A latency model that grows: measured operators, and a regression for the others.

    At first the operators of the largest network are measured; then in each architecture step the
    one whose standard deviation times its probability is largest. Measurements are merged into the
    target's table.

    A candidate that cannot be measured is added to `failed` (errors by key) and has no cost; the
    table's header stores it. Raises `DeviceError` if an operator of every network cannot be
    measured, and if a block has no candidate left.
    """

    def __init__(self, target: Target, space: SearchSpace, sigmas: float) -> None:
        if target.bench is None:
            raise UsageError(f"{target.name} cannot be reached: nothing can be measured as you go")
        self.target, self.space, self.sigmas = target, space, sigmas
        self.bench = target.bench
        self.measured = 0
        table = target.table or LatencyTable(self.bench.device.setting, {})
        if space.tag not in table.calibrations:
            notice(
                f"{target.name}: no networks of {space.tag} were measured, so its latencies are "
                "less accurate; lat-profile measures them"
            )
        self.table = comparable(table, space)
        self.failed: dict[str, str] = {}
        missing = self.table.missing(set(space.operators) - set(space.fixed))
        self._leave_out({op: table.failed[op.key] for op in missing if op.key in table.failed})
        while missing := self.table.missing(space.network(self.largest).parts):
            self._measure(missing)
        self.model: RegressionModel = fit(self.table, extrapolate=True)

    @property
    def largest(self) -> tuple[int, ...]:
        """Choices of the network with the most multiply-accumulates that can be measured."""
        macs = [
            [0 if op is None else -1 if op.key in self.failed else op.macs for op in block]
            for block in self.space.blocks
        ]
        return tuple(row.index(max(row)) for row in macs)

    @property
    def costs(self) -> CandidateLatency:
        """Mean and standard deviations of every candidate, as known now; NaN for those that cannot
        be measured."""
        costs = candidate_latency(self.model, self.space.blocks, self.space.fixed, self.sigmas)
        matrix = costs.matrix.copy()
        for row, block in enumerate(self.space.blocks):
            matrix[row, [i for i, op in enumerate(block) if self._has_failed(op)]] = np.nan
        return replace(costs, matrix=matrix)

    def laid_out(self, budget: Budget) -> Budget:
        """A budget on the target's latency over the space's candidates, as known now."""
        return budget.over(self.costs, self.model, self.target.batch)

    def revised(self, budget: Budget) -> Budget:
        """A budget on the target's latency, as known now; its limit stays."""
        return replace(budget, costs=self.costs, model=self.model)

    def __call__(self, probabilities: Tensor) -> Mapping[str, CandidateLatency]:
        """Measure the most important operator; returns the target's new costs by its name. Empty if
        all important operators were measured."""
        op = self._most_important(probabilities.double().cpu().numpy())
        if op is None:
            return {}
        self._measure([op])
        self.model = fit(self.table, extrapolate=True)
        return {self.target.name: self.costs}

    def settle(self, supernet: SuperNet) -> None:
        """Measure, one after the other, all important operators by a supernet's probabilities, and
        exclude those that cannot be measured from it."""
        supernet.leave_out(np.isnan(self.costs.matrix))
        while self(supernet.probabilities.detach()):
            supernet.leave_out(np.isnan(self.costs.matrix))

    def _most_important(self, probabilities: np.ndarray) -> OpSpec | None:
        """The operator with the largest deviation times probability, summed over blocks."""
        weight: dict[OpSpec, float] = {}
        for row, block in zip(probabilities, self.space.blocks, strict=True):
            for p, op in zip(row, block, strict=False):
                if op is not None and op not in self.table and op.key not in self.failed:
                    prediction = self.model.predict_op(op)
                    deviation = (prediction.high_ms - prediction.ms) / Z95
                    weight[op] = weight.get(op, 0.0) + float(p) * deviation
        most = max(weight, key=weight.__getitem__, default=None)
        return most if most and weight[most] >= _ENOUGH * self.costs.fastest_ms else None

    def _measure(self, ops: Sequence[OpSpec]) -> None:
        tag = _calibrated(self.table, self.space.tag)
        table, failures = measure_operators(self.bench, self.table, tag, ops)
        self.table = comparable(table, self.space)
        self.measured += len(ops) - len(failures)
        self._leave_out({op: failures[op.key] for op in ops if op.key in failures})

    def _leave_out(self, failed: Mapping[OpSpec, str]) -> None:
        """Exclude operators from the candidates, with a notice of each."""
        for op, error in failed.items():
            if op in self.space.fixed:
                raise DeviceError(
                    f"{op.key}, an operator of every network of {self.space.tag}, could not be "
                    f"measured: {error}"
                )
            notice(f"{self.target.name}: {op.key} is left out; it could not be measured: {error}")
            self.failed[op.key] = error
        for number, block in enumerate(self.space.blocks):
            if all(map(self._has_failed, block)):
                raise DeviceError(
                    f"block {number + 1} of {self.space.tag} has no candidate left that can be "
                    "measured"
                )

    def _has_failed(self, op: OpSpec | None) -> bool:
        return op is not None and op.key in self.failed

    def summary(self) -> str:
        """How many of the space's operators were measured."""
        total = len(self.space.operators)
        return (
            f"{self.target.name}: measured {self.measured} of {total} operators during the search"
        )


def comparable(table: LatencyTable, space: SearchSpace) -> LatencyTable:
    """The table with in-network latencies of all rows of a space's operators, including those
    stored as measured alone; unchanged if it has no calibration."""
    tag = _calibrated(table, space.tag)
    if tag is None:
        return table
    inside = dict(table.in_network_ms)
    for op in space.operators:
        row = table.rows.get(op)
        if row is None or row.is_of_suite or not row.is_alone:
            continue
        if math.isclose(inside.get(op, row.median_ms), row.median_ms, rel_tol=1e-5, abs_tol=2e-7):
            inside[op] = table.calibrations[tag].in_network_ms(op, row.median_ms)
    return replace(table, in_network_ms=inside)


def _calibrated(table: LatencyTable, tag: str) -> str | None:
    """The space whose calibration is used for the space `tag`: itself, or one of its name, or any;
    the kernel suite comes last. None if the table has no calibration."""
    name = tag.partition("@")[0]

    def rank(other: str) -> tuple[bool, bool, bool]:
        return other == tag, other.partition("@")[0] == name, other != SUITE

    return max(table.calibrations, key=rank, default=None)
