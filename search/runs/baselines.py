"""Networks that a search is compared with: not searched, at the same budgets, trained alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.progress import Progress

from latency.errors import CoverageError, DeviceError, InfeasibleError, UsageError
from latency.names import digest
from latency.operators.network import NetworkSpec
from latency.predictors.regression import fit
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from search.baselines import mobilenet_v2_within, random_within
from search.budget import Budget, macs_of_one
from search.confirmation import Attempt, predictions
from search.console import following, notice
from search.runs.certificate import largest_share
from search.runs.measured_budgets import measure_deployed
from search.runs.search_run import SearchRun

_RANDOM = 6
"""Stream of random numbers of the random networks."""
_CORRECTIONS = 5
"""How often a width is looked for, each time by what was measured of the one before."""


def largest_network(run: SearchRun, bar: Progress) -> dict[str, Any]:
    """The space's largest network, trained and measured like the network found."""
    choices = (run.plan.as_you_go or run.plan.space).largest
    network = run.plan.space.network(choices)
    attempt = Attempt(choices, network, predictions(run.summed, choices))
    return trained_and_measured(run, "largest", network, attempt, bar)


def baselines(run: SearchRun, found: Attempt, bar: Progress, count: int) -> list[dict[str, Any]]:
    """The best of `count` random networks of the space, by validation accuracy, and MobileNetV2
    of uniform width, both within the same budgets as the network found. The name of a network that
    is over a budget once measured says so; a notice names a baseline that does not exist. Nothing
    where `count` is zero."""
    if count == 0:
        return []
    rows = _random_search(run, found, count, bar)
    try:
        network = _mobilenet(run, found, bar)
    except (CoverageError, DeviceError, UsageError) as error:
        notice(f"no MobileNetV2 to compare with: {error}")
        return rows
    row = trained_and_measured(run, "MobileNetV2", network, None, bar)
    return [*rows, _named("MobileNetV2", row)]


def trained_and_measured(
    run: SearchRun, name: str, network: NetworkSpec, attempt: Attempt | None, bar: Progress
) -> dict[str, Any]:
    """A baseline, trained and measured like the network found. `attempt`: what is known of it if
    it is a network of the space. `meets`: whether it is within all budgets."""
    own = digest(op.key for op in network.ops)  # the name may mean another one when resumed
    phase = f"{name.lower().replace(' ', '-')}-{own}"
    training = run.train(network, phase, f"training: {name}", bar)
    show = following(bar, "measuring the trained network", visible=bool(run.at_hand))
    rows = measure_deployed(run.at_hand, network, training.module, show)
    first = run.budgets[0].name
    measured = rows.get(first)
    return {
        "name": name,
        "choices": list(attempt.choices) if attempt else None,
        "predicted_ms": attempt.predicted[first] if attempt else None,
        "measured_ms": measured.median_ms if measured else None,
        "meets": _is_within(run, network, attempt, rows),
        "valid_accuracy": run.accuracy(training, run.plan.data.valid),
        "test_accuracy": run.accuracy(training, run.plan.data.test),
        "macs": macs_of_one(network),
        "params": network.params,
    }


def _is_within(
    run: SearchRun,
    network: NetworkSpec,
    attempt: Attempt | None,
    measured: Mapping[str, Measurement],
) -> bool:
    """Whether a network is within the budgets, as measured or else as predicted, as far as either
    is known."""
    used = {**attempt.predicted} if attempt else {}
    used |= {name: row.high_ms for name, row in measured.items()}
    known = [budget for budget in run.summed if budget.name in used]
    fits = all(used[budget.name] <= budget.limit for budget in known)
    return fits and largest_share(network, run.sizes) <= 1


def _named(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "name": name if row["meets"] else f"{name}, over budget"}


def _random_search(
    run: SearchRun, found: Attempt, count: int, bar: Progress
) -> list[dict[str, Any]]:
    """The best of random networks within all budgets, as slow as the network found: of those
    within the budgets as measured, if there are any. None where none is predicted to be within the
    budgets other than the first."""
    first, *others = run.summed
    space = run.plan.space
    generator = np.random.default_rng((run.plan.seed, _RANDOM))
    most = found.predicted[first.name]
    drawn = random_within(space, first.costs, most, 64 * count, generator)
    within = np.ones(len(drawn), bool)
    for other in others:
        within &= other.costs.predict(drawn) <= other.limit
    if not within.any():
        notice("no random network to compare with: none was found within the other budgets")
        return []
    rows = []
    for number, row in enumerate(drawn[within][:count].tolist()):
        choices = tuple(row)
        attempt = Attempt(choices, space.network(choices), predictions(run.summed, choices))
        name = f"random network {number + 1}"
        rows.append(trained_and_measured(run, name, attempt.network, attempt, bar))
    best = max(rows, key=lambda row: (row["meets"], row["valid_accuracy"]))
    return [_named(f"random, best of {count}" if count > 1 else "random", best)]


def _mobilenet(run: SearchRun, found: Attempt, bar: Progress) -> NetworkSpec:
    """MobileNetV2 at the width that the budgets allow, by regression; where devices are at hand,
    corrected by measurements."""
    budgets = {budget.name: _extrapolating(run, budget) for budget in run.latencies}
    corrections = dict(found.corrections)
    tried: dict[NetworkSpec, float] = {}
    show = following(bar, "measuring MobileNetV2", visible=bool(run.at_hand))
    measures = {one.name: one.measure(show) for one in run.at_hand}
    for _ in range(_CORRECTIONS):
        network = _widest(run, tuple(budgets.values()), corrections)
        if not measures:
            return network
        if network in tried:
            break
        shares = [largest_share(network, run.sizes)]
        for name, measure_network in measures.items():
            high_ms = measure_network(network).high_ms
            corrections[name] = high_ms / budgets[name].usage(network)
            shares.append(high_ms / budgets[name].limit)
        tried[network] = max(shares)
        if 0.95 <= tried[network] <= 1:
            break
    # The one that uses most of the budgets within them; where none is within, the nearest to them.
    return min(tried, key=lambda one: (tried[one] > 1, abs(1 - tried[one])))


def _extrapolating(run: SearchRun, budget: Budget) -> Budget:
    """The latency with a model that predicts MobileNetV2, whose widths a table is missing."""
    if not isinstance(budget.model, LatencyTable):
        return budget
    is_at_hand = run.plan.targets[budget.name].at_hand is not None
    return replace(budget, model=fit(budget.model, extrapolate=is_at_hand))


def _widest(
    run: SearchRun, latencies: Sequence[Budget], corrections: Mapping[str, float]
) -> NetworkSpec:
    """The widest MobileNetV2 within all budgets, by predictions as corrected. Raises
    `InfeasibleError` where none is."""
    first, *others = latencies

    def share(budget: Budget, network: NetworkSpec) -> float:
        return corrections.get(budget.name, 1.0) * budget.usage(network) / budget.limit

    def latency_of(network: NetworkSpec) -> float:
        """On the first target, or as much above its budget as another cost is above its own."""
        shares = [share(budget, network) for budget in others]
        return first.limit * max(share(first, network), largest_share(network, run.sizes), *shares)

    plan = run.plan
    try:
        return mobilenet_v2_within(
            latency_of,
            first.limit,
            resolution=plan.space.resolution,
            classes=plan.data.classes,
            batch=first.batch,
        )
    except InfeasibleError:
        if len(run.budgets) == 1:
            raise
        raise InfeasibleError("none is within all budgets") from None
