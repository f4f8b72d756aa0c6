"""What a search was worth: networks that nobody searched, at the same latency, trained alike."""

from typing import Any

import numpy as np
from rich.progress import Progress

from latency.errors import CoverageError, DeviceError, UsageError
from latency.network import NetworkSpec
from latency.regression import fit
from latency.table import LatencyTable
from search.baselines import mobilenet_v2_within, random_within
from search.commands.console import following, notice
from search.commands.search_job import SearchJob
from search.confirmation import Attempt, measure_on, predictions

_RANDOM = 6
"""Stream of random numbers of the random networks."""
_CORRECTIONS = 5
"""How often a width is looked for, each time by what was measured of the one before."""


def baselines(
    job: SearchJob, found: Attempt, bar: Progress, quiet: bool, count: int
) -> list[dict[str, Any]]:
    """The best of `count` random networks of the space, by validation accuracy, and MobileNetV2
    of uniform width, on the first target's budget as the network found was held to it; a notice of
    what there is not. Nothing where `count` is zero."""
    if count == 0:
        return []
    rows = _random_search(job, found, count, bar, quiet)
    try:
        network = _mobilenet(job, found, bar)
    except (CoverageError, DeviceError, UsageError) as error:
        notice(f"no MobileNetV2 to compare with: {error}")
        return rows
    return [*rows, job.trained_and_measured("MobileNetV2", network, None, bar, quiet)]


def _random_search(
    job: SearchJob, found: Attempt, count: int, bar: Progress, quiet: bool
) -> list[dict[str, Any]]:
    """The best of random networks within all budgets, as slow as the network found; none where
    none is within the others."""
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
        rows.append(job.trained_and_measured(name, attempt.network, attempt, bar, quiet))
    best = max(rows, key=lambda row: row["valid_accuracy"])
    return [best | {"name": f"random, best of {count}" if count > 1 else "random"}]


def _mobilenet(job: SearchJob, found: Attempt, bar: Progress) -> NetworkSpec:
    """MobileNetV2 at the width that the first target's budget allows: by regression, corrected by
    what is measured where the device is at hand."""
    goal = job.goals[0]
    at_hand, model = goal.target.at_hand, goal.model
    if isinstance(model, LatencyTable):  # which lacks MobileNetV2's widths
        model = fit(model, extrapolate=at_hand is not None)
    correction = found.corrections.get(goal.budget.name, 1.0)
    limit = goal.budget.limit
    inputs = job.space.resolution, job.data.classes, goal.target.batch
    tried: dict[NetworkSpec, float] = {}
    show = following(bar, "measuring MobileNetV2", visible=at_hand is not None)
    for _ in range(_CORRECTIONS):

        def latency_of(network: NetworkSpec, correction: float = correction) -> float:
            return correction * model.predict(network).ms

        network = mobilenet_v2_within(latency_of, limit, *inputs)
        if at_hand is None:
            return network
        if network in tried:
            break
        device, card = at_hand
        tried[network] = measured = measure_on(device, card.measuring, show)(network).median_ms
        correction = measured / model.predict(network).ms
        if 0.95 * limit <= measured <= limit:
            break
    # The slowest within the budget; where none is, the fastest.
    return min(tried, key=lambda one: (tried[one] > limit, abs(limit - tried[one])))
