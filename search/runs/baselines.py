"""Baselines of a search: networks at the same budgets that were not searched, trained alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from rich.progress import Progress

from latency.errors import CoverageError, DeviceError, UsageError
from latency.names import digest
from latency.operators.network import NetworkSpec
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from search.baselines import mobilenet_v2_within, random_within
from search.budget import Budget, macs_of_one
from search.confirmation import Attempt, attempt_of
from search.console import notice
from search.runs.search_run import SearchRun

_RANDOM = 6
"""Stream of random numbers of the random networks."""
_CORRECTIONS = 5
"""How many widths are measured at most, each corrected by the measurement of the one before."""


def baselines(run: SearchRun, found: Attempt, bar: Progress, count: int) -> list[dict[str, Any]]:
    """The best of `count` random networks of the space, by validation accuracy, and MobileNetV2
    of uniform width, both within the same budgets as the network found. The name of a network that
    is measured to be over a budget says so; a notice names a baseline that does not exist. Empty
    if `count` is 0."""
    if count == 0:
        return []
    rows = _random_search(run, found, count, bar)
    try:
        network = _mobilenet(run, found, bar)
    except (CoverageError, DeviceError, UsageError) as error:
        notice(f"no MobileNetV2 to compare with: {error}")
        return rows
    row = trained_and_measured(run, "MobileNetV2", Attempt((), network, {}), bar)
    return [*rows, _named("MobileNetV2", row)]


def trained_and_measured(
    run: SearchRun, name: str, attempt: Attempt, bar: Progress
) -> dict[str, Any]:
    """A baseline, trained and measured like the network found. `meets`: whether it is within all
    budgets that were measured or predicted for it."""
    network = attempt.network
    own = digest(op.key for op in network.ops)  # a resumed run may have another one of this name
    phase = f"{name.lower().replace(' ', '-')}-{own}"
    training = run.train(network, phase, f"training: {name}", bar)
    measured = run.measure_deployed(network, training.module, bar)
    used = {**attempt.predicted, **{name: row.high_ms for name, row in measured.items()}}
    limits = {budget.name: budget.limit for budget in run.summed}
    is_within = all(used[name] <= limits[name] for name in used)
    first = run.budgets[0].name
    return {
        "name": name,
        "choices": list(attempt.choices) or None,
        "predicted_ms": attempt.predicted.get(first),
        "measured_ms": measured[first].median_ms if first in measured else None,
        "meets": is_within and _largest_share(run, network) <= 1,
        "valid_accuracy": run.accuracy(training, run.plan.data.valid),
        "test_accuracy": run.accuracy(training, run.plan.data.test),
        "macs": macs_of_one(network),
        "params": network.params,
    }


def _largest_share(run: SearchRun, network: NetworkSpec) -> float:
    """The largest share of a limit on size that a network uses; 0 if there is no limit."""
    return max((size.usage(network) / size.limit for size in run.sizes), default=0.0)


def _named(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "name": name if row["meets"] else f"{name}, over budget"}


def _random_search(
    run: SearchRun, found: Attempt, count: int, bar: Progress
) -> list[dict[str, Any]]:
    """The best of random networks within all budgets, as slow as the network found. Those that
    are measured to be within the budgets come first. Empty if none is predicted to be within the
    budgets other than the first."""
    first, *others = run.summed
    space = run.plan.space
    generator = np.random.default_rng((run.plan.seed, _RANDOM))
    drawn = random_within(space, first.costs, found.predicted[first.name], 64 * count, generator)
    for other in others:
        drawn = drawn[other.costs.predict(drawn) <= other.limit]
    if not len(drawn):
        notice("no random network to compare with: none was found within the other budgets")
        return []
    rows = []
    for number, row in enumerate(drawn[:count].tolist()):
        attempt = attempt_of(space, tuple(row), run.summed)
        rows.append(trained_and_measured(run, f"random network {number + 1}", attempt, bar))
    best = max(rows, key=lambda row: (row["meets"], row["valid_accuracy"]))
    return [_named(f"random, best of {count}" if count > 1 else "random", best)]


def _mobilenet(run: SearchRun, found: Attempt, bar: Progress) -> NetworkSpec:
    """The widest MobileNetV2 within the budgets, by regression; if devices can be reached,
    corrected by measurements."""
    budgets = {budget.name: _extrapolating(run, budget) for budget in run.latencies}
    corrections = dict(found.corrections)
    measures = run.measures(bar, "measuring MobileNetV2")
    shares: dict[NetworkSpec, float] = {}
    for _ in range(_CORRECTIONS):
        network = _widest(run, budgets, corrections)
        if not measures:
            return network
        if network in shares:
            break
        shares[network] = _largest_share(run, network)
        for name, measure_network in measures.items():
            high_ms = measure_network(network).high_ms
            corrections[name] = high_ms / budgets[name].usage(network)
            shares[network] = max(shares[network], high_ms / budgets[name].limit)
        if 0.95 <= shares[network] <= 1:
            break
    # The largest share within the budgets; if none is within, the smallest.
    return min(shares, key=lambda one: (shares[one] > 1, abs(1 - shares[one])))


def _extrapolating(run: SearchRun, budget: Budget) -> Budget:
    """The latency with a model that predicts MobileNetV2 at any width."""
    if not isinstance(budget.model, LatencyTable):
        return budget
    return replace(budget, model=fit(budget.model, extrapolate=budget.name in run.benches))


def _widest(
    run: SearchRun, latencies: Mapping[str, Budget], corrections: Mapping[str, float]
) -> NetworkSpec:
    """The widest MobileNetV2 within all budgets, by corrected predictions. Raises
    `InfeasibleError` if there is none."""
    first = run.budgets[0]

    def latency_of(network: NetworkSpec) -> float:
        """On the first target, or the largest share of any budget, in ms of the first one."""
        shares = [
            corrections.get(name, 1.0) * budget.usage(network) / budget.limit
            for name, budget in latencies.items()
        ]
        return first.limit * max(_largest_share(run, network), *shares)

    return mobilenet_v2_within(
        latency_of,
        first.limit,
        resolution=run.plan.space.resolution,
        classes=run.plan.data.classes,
        batch=first.batch,
    )
