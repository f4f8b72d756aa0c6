"""Measuring a space's operators while it is searched, those first that matter most."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from devices.device import Workload
from devices.measuring.rounds import measure
from latency.candidates import CandidateLatency, candidate_latency
from latency.errors import DeviceError, UsageError
from latency.graphs.fusion import SUITE
from latency.operators.spec import OpSpec
from latency.predictors.regression import RegressionModel, fit
from latency.stats import Z95
from latency.tables.calibration import Calibration
from latency.tables.table import LatencyTable
from search.budget import Budget
from search.console import notice
from search.jobs.profiling import circumstances, keep
from search.jobs.targets import Target
from search.space import SearchSpace
from search.supernet.supernet import SuperNet

_ENOUGH = 0.002
"""The search stops measuring where no operator's deviation times its probability is more than
this share of the fastest network's latency."""


class AsYouGo:
    """A latency model that grows: measured operators, and a regression for the others.

    At first the operators that every network has and those of the largest network are measured;
    then in each architecture step the one whose standard deviation, times the probability that it
    is taken, is largest. What is measured is kept in the target's table.

    A candidate that cannot be measured is in `failures` from then on, and has no cost; the table's
    header remembers it. Raises `DeviceError` where an operator of every network cannot be measured,
    and where a block has no candidate left.
    """

    def __init__(self, target: Target, space: SearchSpace, sigmas: float) -> None:
        if target.at_hand is None:
            raise UsageError(f"{target.name} is not at hand: nothing can be measured as you go")
        self.target, self.space, self.sigmas = target, space, sigmas
        self.device, self.card = target.at_hand
        self.measured = 0
        self.table = comparable(target.table or LatencyTable(self.device.setting, {}), space)
        self.failures: dict[OpSpec, str] = {}
        self._leave_out(
            self._known_failures(), "it could not be measured before (lat-profile tries again)"
        )
        self._tell_kind()
        while lacking := self.table.missing(space.network(self.largest).parts):
            self._measure(lacking)
        self.model: RegressionModel = fit(self.table, extrapolate=True)

    @property
    def largest(self) -> tuple[int, ...]:
        """Choices of the network with the most multiply-accumulates that can be measured."""
        macs = [
            [-1 if op in self.failures else op.macs if op else 0 for op in block]
            for block in self.space.blocks
        ]
        return tuple(row.index(max(row)) for row in macs)

    @property
    def costs(self) -> CandidateLatency:
        """Mean and standard deviations of every candidate, as known now; NaN of those that cannot
        be measured."""
        costs = candidate_latency(self.model, self.space.blocks, self.space.fixed, self.sigmas)
        matrix = costs.matrix.copy()
        for row, block in enumerate(self.space.blocks):
            failed = [number for number, op in enumerate(block) if op in self.failures]
            matrix[row, failed] = np.nan
        return replace(costs, matrix=matrix)

    def laid_out(self, budget: Budget) -> Budget:
        """A budget on the target's latency over the space's candidates, as known now."""
        return budget.over(self.costs, self.model, self.target.batch)

    def revised(self, budget: Budget) -> Budget:
        """A budget on the target's latency, as known now; its limit stays."""
        return replace(budget, costs=self.costs, model=self.model)

    def __call__(self, probabilities: Tensor) -> Mapping[str, CandidateLatency]:
        """Measure the operator that matters most; the target's costs anew, by its name. Nothing
        where all that matters is known."""
        op = self._worst(probabilities.double().cpu().numpy())
        if op is None:
            return {}
        self._measure([op])
        self.model = fit(self.table, extrapolate=True)
        return {self.target.name: self.costs}

    def settle(self, supernet: SuperNet) -> None:
        """Measure, one after the other, all operators that matter by a supernet's probabilities;
        what cannot be measured is left out of it."""
        supernet.leave_out(np.isnan(self.costs.matrix))
        while revised := self(supernet.probabilities.detach()):
            for costs in revised.values():
                supernet.leave_out(np.isnan(costs.matrix))

    @property
    def failed(self) -> dict[str, str]:
        """Candidates that are left out by their keys, and why."""
        return {op.key: error for op, error in self.failures.items()}

    def _worst(self, probabilities: np.ndarray) -> OpSpec | None:
        """The operator of the largest deviation times probability, summed over blocks."""
        weight: dict[OpSpec, float] = {}
        for row, block in zip(probabilities, self.space.blocks, strict=True):
            for p, op in zip(row, block, strict=False):
                if op is not None and op not in self.table and op not in self.failures:
                    prediction = self.model.predict_op(op)
                    deviation = (prediction.high_ms - prediction.ms) / Z95
                    weight[op] = weight.get(op, 0.0) + float(p) * deviation
        worst = max(weight, key=weight.__getitem__, default=None)
        if worst is None or weight[worst] < _ENOUGH * self.costs.fastest_ms:
            return None
        return worst

    def _measure(self, ops: Sequence[OpSpec]) -> None:
        """Measure operators, and keep what came of it in the table."""
        found = measure(self.device, [Workload.of_op(op) for op in ops], self.card.measuring)
        rows = {op: found.rows[op.key] for op in ops if op.key in found.rows}
        failed = {op: found.failures[op.key] for op in ops if op.key in found.failures}
        self.measured += len(rows)
        errors = {op.key: error for op, error in failed.items()}
        fresh = replace(self.table, setting=self.device.setting, rows=rows, in_network_ms={})
        inside = comparable(fresh, self.space).in_network_ms
        if rows or self.table.rows:
            fresh = LatencyTable(
                self.device.setting,
                rows,
                inside,
                failed=errors,
                circumstances=circumstances(self.card) if rows else {},
            )
            self.table = comparable(keep(fresh, self.target.path, self.table), self.space)
        self._leave_out(failed)

    def _known_failures(self) -> dict[OpSpec, str]:
        """The candidates that the table says could not be measured."""
        missing = self.table.missing(set(self.space.operators) - set(self.space.fixed))
        failed = self.table.failed
        return {op: failed[op.key] for op in missing if op.key in failed}

    def _leave_out(self, failed: Mapping[OpSpec, str], what: str = "it cannot be measured") -> None:
        """Take operators out of the candidates, with a notice of each."""
        for op, error in failed.items():
            if op in self.space.fixed:
                raise DeviceError(
                    f"{op.key}, which every network of {self.space.tag} has, could not be "
                    f"measured: {error}"
                )
            notice(f"{self.target.name}: {op.key} is no candidate any more, as {what}: {error}")
            self.failures[op] = error
        for number, block in enumerate(self.space.blocks):
            if all(op in self.failures for op in block):
                keys = ", ".join(op.key for op in block if op is not None)
                error = self.failures[next(op for op in block if op is not None)]
                raise DeviceError(
                    f"block {number + 1} of {self.space.tag} has no candidate left that can be "
                    f"measured ({keys}); the first: {error}"
                )

    def _tell_kind(self) -> None:
        """Say where the latencies of this space's operators are not by its own calibration."""
        if self.space.tag in self.table.calibrations:
            return
        found = calibration_of(self.table, self.space.tag)
        kind = f"by the calibration of {found[0]}" if found else "as measured alone"
        notice(
            f"{self.target.name}: no networks of {self.space.tag} were measured (lat-profile "
            f"does): its operators count {kind}"
        )

    def summary(self) -> str:
        """How many of the space's operators were measured."""
        total = len(self.space.operators)
        return f"{self.target.name}: measured {self.measured} operators on the way, of {total}"


def comparable(table: LatencyTable, space: SearchSpace) -> LatencyTable:
    """The table with in-network latencies of all rows of a space's operators, those included that
    were stored as measured alone; as it is where it has no calibration to find them by."""
    found = calibration_of(table, space.tag)
    if found is None:
        return table
    _, calibration = found
    inside = dict(table.in_network_ms)
    for op in space.operators:
        row = table.rows.get(op)
        if row is None or row.is_of_suite or not row.is_alone:
            continue
        if math.isclose(inside.get(op, row.median_ms), row.median_ms, rel_tol=1e-5, abs_tol=2e-7):
            inside[op] = calibration.in_network_ms(op, row.median_ms)
    return replace(table, in_network_ms=inside)


def calibration_of(table: LatencyTable, tag: str) -> tuple[str, Calibration] | None:
    """The calibration of the space with this tag, and whose it is: its own, or that of a space of
    its name, or any; that of the kernel suite counts least. None where the table has none."""
    name = tag.partition("@")[0]

    def rank(theirs: str) -> tuple[bool, bool, bool]:
        return theirs == tag, theirs.partition("@")[0] == name, theirs != SUITE

    best = max(table.calibrations, key=rank, default=None)
    return None if best is None else (best, table.calibrations[best])
