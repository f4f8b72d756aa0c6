"""The certificate of a search: of each budget what was asked for, predicted and measured."""

from collections.abc import Mapping, Sequence

from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import MACS, MEMORY, PARAMS, Budget, macs_of_one, memory_of
from search.confirmation import Attempt
from search.result import BudgetResult
from search.runs.goals import Goal
from search.space import network_at


def budget_results(
    goals: Sequence[Goal],
    sizes: Sequence[Budget],
    memory: float | None,
    chosen: Attempt,
    measured: Mapping[str, Measurement],
) -> list[BudgetResult]:
    """What the network `chosen` takes of each budget, the first target's first, at its target's
    batch. `memory`: the bytes of a memory budget, of the largest batch; `measured` of the deployed
    files, by the targets' names."""
    results = [_of_target(goal, chosen, measured.get(goal.budget.name)) for goal in goals]
    for size in sizes:
        amount = chosen.predicted[size.name]
        results.append(BudgetResult.of_size(size.name, size.unit, size.limit, amount))
    if memory is not None:
        batch = max(goal.target.batch for goal in goals)
        amount = memory_of(network_at(chosen.network, batch))
        results.append(BudgetResult.of_size(MEMORY, "bytes", memory, amount))
    return results


def _of_target(goal: Goal, chosen: Attempt, measured: Measurement | None) -> BudgetResult:
    budget = goal.budget
    prediction = goal.predict(chosen.network)
    # Where operators are predicted, the budget holds for the mean and some deviations.
    held = measured.high_ms if measured else chosen.predicted[budget.name]
    return BudgetResult(
        name=budget.name,
        unit=budget.unit,
        limit=budget.limit,
        predicted=prediction.ms,
        predicted_low=prediction.low_ms,
        predicted_high=prediction.high_ms,
        measured=measured.median_ms if measured else None,
        measured_low=measured.low_ms if measured else None,
        measured_high=measured.high_ms if measured else None,
        meets=held <= budget.limit,
        table=goal.table,
    )


def largest_share(
    network: NetworkSpec, sizes: Sequence[Budget], memory: float | None, batch: int
) -> float:
    """The largest share of a limit that a network takes: of its `sizes`, and of the bytes of
    `memory` for its activations at this batch. 0 where there is no such limit."""
    counts = {PARAMS: network.params, MACS: macs_of_one(network)}
    shares = [counts[size.name] / size.limit for size in sizes]
    if memory is not None:
        shares.append(memory_of(network_at(network, batch)) / memory)
    return max(shares, default=0.0)
