"""What a search was worth: networks that nobody searched, at the same latency, trained alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rich.progress import Progress

from latency.errors import CoverageError, DeviceError, UsageError
from latency.operators.network import NetworkSpec
from latency.prediction import LatencyModel
from latency.predictors.regression import fit
from latency.tables.table import LatencyTable
from search.baselines import mobilenet_v2_within, random_within
from search.confirmation import Attempt, predictions
from search.console import following, notice
from search.runs.certificate import largest_share
from search.runs.goals import Goal
from search.runs.search_run import SearchJob

_RANDOM = 6
"""Stream of random numbers of the random networks."""
_CORRECTIONS = 5
"""How often a width is looked for, each time by what was measured of the one before."""


def baselines(job: SearchJob, found: Attempt, bar: Progress, count: int) -> list[dict[str, Any]]:
    """The best of `count` random networks of the space, by validation accuracy, and MobileNetV2
    of uniform width, within the budgets as the network found was held to them; the name of one
    that proves over a budget says so. A notice of what there is not. Nothing where `count` is
    zero."""
    if count == 0:
        return []
    rows = _random_search(job, found, count, bar)
    try:
        network = _mobilenet(job, found, bar)
    except (CoverageError, DeviceError, UsageError) as error:
        notice(f"no MobileNetV2 to compare with: {error}")
        return rows
    row = job.trained_and_measured("MobileNetV2", network, None, bar)
    return [*rows, _named("MobileNetV2", row)]


def _named(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "name": name if row["meets"] else f"{name}, over budget"}


def _random_search(
    job: SearchJob, found: Attempt, count: int, bar: Progress
) -> list[dict[str, Any]]:
    """The best of random networks within all budgets, as slow as the network found: of those that
    prove within, where any does; none where none is predicted within the others."""
    first, *others = job.budgets
    generator = np.random.default_rng((job.seed, _RANDOM))
    most = found.predicted[first.name]
    drawn = random_within(job.space, first.costs, most, 64 * count, generator)
    within = np.ones(len(drawn), bool)
    for other in others:
        within &= other.costs.predict(drawn) <= other.limit
    if not within.any():
        notice("no random network to compare with: none was found within the other budgets")
        return []
    rows = []
    for number, row in enumerate(drawn[within][:count].tolist()):
        choices = tuple(row)
        attempt = Attempt(choices, job.space.network(choices), predictions(job.budgets, choices))
        name = f"random network {number + 1}"
        rows.append(job.trained_and_measured(name, attempt.network, attempt, bar))
    best = max(rows, key=lambda row: (row["meets"], row["valid_accuracy"]))
    return [_named(f"random, best of {count}" if count > 1 else "random", best)]


def _mobilenet(job: SearchJob, found: Attempt, bar: Progress) -> NetworkSpec:
    """MobileNetV2 at the width that the budgets allow: by regression, corrected by what is measured
    where devices are at hand."""
    goals = {goal.budget.name: replace(goal, model=_model(goal)) for goal in job.goals}
    corrections = dict(found.corrections)
    tried: dict[NetworkSpec, float] = {}
    measures = job.measures(following(bar, "measuring MobileNetV2", visible=bool(job.at_hand)))
    for _ in range(_CORRECTIONS):
        network = _widest(job, tuple(goals.values()), corrections)
        if not measures:
            return network
        if network in tried:
            break
        shares = [largest_share(network, job.sizes, job.memory, job.batch)]
        for name, measure_network in measures.items():
            high_ms = measure_network(network).high_ms
            corrections[name] = high_ms / goals[name].predict(network).ms
            shares.append(high_ms / goals[name].budget.limit)
        tried[network] = max(shares)
        if 0.95 <= tried[network] <= 1:
            break
    # The one that takes most within the budgets; where none is, the nearest to them.
    return min(tried, key=lambda one: (tried[one] > 1, abs(1 - tried[one])))


def _model(goal: Goal) -> LatencyModel:
    """What predicts MobileNetV2, whose widths a table lacks."""
    if isinstance(goal.model, LatencyTable):
        return fit(goal.model, extrapolate=goal.target.at_hand is not None)
    return goal.model


def _widest(job: SearchJob, goals: Sequence[Goal], corrections: Mapping[str, float]) -> NetworkSpec:
    """The widest MobileNetV2 within all budgets, by predictions as corrected."""
    first, *others = goals

    def share(goal: Goal, network: NetworkSpec) -> float:
        correction = corrections.get(goal.budget.name, 1.0)
        return correction * goal.predict(network).ms / goal.budget.limit

    def latency_of(network: NetworkSpec) -> float:
        """On the first target, or as much above its budget as another cost is above its own."""
        shares = [share(goal, network) for goal in others]
        size = largest_share(network, job.sizes, job.memory, job.batch)
        return first.budget.limit * max(share(first, network), size, *shares)

    inputs = job.space.resolution, job.data.classes, first.target.batch
    try:
        return mobilenet_v2_within(latency_of, first.budget.limit, *inputs)
    except UsageError:
        if not (others or job.sizes or job.memory):
            raise
        raise UsageError("none is within all budgets") from None
