"""Measuring a space's operators while it is searched, those first that matter most."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from devices.device import Workload
from devices.measuring.rounds import measure
from latency.candidates import CandidateLatency, candidate_latency
from latency.errors import UsageError
from latency.operators.spec import OpSpec
from latency.predictors.regression import RegressionModel, fit
from latency.stats import Z95
from latency.tables.table import LatencyTable
from search.budget import AskedBudget
from search.console import notice
from search.jobs.profiling import circumstances, keep
from search.jobs.targets import Target
from search.runs.goals import Goal
from search.space import SearchSpace

_ENOUGH = 0.002
"""The search stops measuring where no operator's deviation times its probability is more than
this share of the fastest network's latency."""


class AsYouGo:
    """A latency model that grows: measured operators, and a regression for the others.

    At first the operators that every network has and those of the largest network are measured;
    then in each architecture step the one whose standard deviation, times the probability that it
    is taken, is largest. What is measured is kept in the target's table.
    """

    def __init__(self, target: Target, space: SearchSpace, sigmas: float) -> None:
        if target.at_hand is None:
            raise UsageError(f"{target.name} is not at hand: nothing can be measured as you go")
        self.target, self.space, self.sigmas = target, space, sigmas
        self.device, self.card = target.at_hand
        self.measured = 0
        first = space.network(space.largest).parts
        table = target.table or LatencyTable(self.device.setting, {})
        self.table = self._with(table, list(table.missing(first)))
        self.model: RegressionModel = fit(self.table, extrapolate=True)

    @property
    def costs(self) -> CandidateLatency:
        """Mean and standard deviations of every candidate, as known now."""
        return candidate_latency(self.model, self.space.blocks, self.space.fixed, self.sigmas)

    def goal(self, asked: AskedBudget) -> Goal:
        """The goal of a budget on the target, by what is known now."""
        return Goal(self.target, self.model, asked.of(self.costs))

    def revised(self, goal: Goal) -> Goal:
        """A goal on the target, by what is known now; its limit stays."""
        return replace(goal, model=self.model, budget=replace(goal.budget, costs=self.costs))

    def __call__(self, probabilities: Tensor) -> Mapping[str, CandidateLatency]:
        """Measure the operator that matters most; the target's costs anew, by its name. Nothing
        where all that matters is known."""
        op = self._worst(probabilities.double().cpu().numpy())
        if op is None:
            return {}
        self.table = self._with(self.table, [op])
        self.model = fit(self.table, extrapolate=True)
        return {self.target.name: self.costs}

    def settle(self, probabilities: Tensor) -> None:
        """Measure, one after the other, all operators that matter by these probabilities."""
        while self(probabilities):
            pass

    def _worst(self, probabilities: np.ndarray) -> OpSpec | None:
        """The operator of the largest deviation times probability, summed over blocks."""
        weight: dict[OpSpec, float] = {}
        for row, block in zip(probabilities, self.space.blocks, strict=True):
            for p, op in zip(row, block, strict=False):
                if op is not None and op not in self.table:
                    prediction = self.model.predict_op(op)
                    deviation = (prediction.high_ms - prediction.ms) / Z95
                    weight[op] = weight.get(op, 0.0) + float(p) * deviation
        worst = max(weight, key=weight.__getitem__, default=None)
        if worst is None or weight[worst] < _ENOUGH * self.costs.fastest_ms:
            return None
        return worst

    def _with(self, table: LatencyTable, ops: list[OpSpec]) -> LatencyTable:
        if not ops:
            return table
        rows = measure(self.device, [Workload.of_op(op) for op in ops], self.card.measuring)
        self.measured += len(ops)
        fresh = LatencyTable(
            self.device.setting,
            {op: rows[op.key] for op in ops},
            circumstances=circumstances(self.card),
        )
        return keep(fresh, self.target.path, table)

    def tell(self) -> None:
        """Say how much of the grid was measured."""
        total = len(self.space.operators)
        notice(f"{self.target.name}: measured {self.measured} operators on the way, of {total}")
