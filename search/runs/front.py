"""A Pareto front: networks from fastest to slowest out of one trained supernet."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from devices.device import Workload
from devices.measuring.rounds import measure
from latency.atomic_file import write_whole
from search.budget import Budget, macs_of_one
from search.confirmation import AIM, Attempt, attempt_of, corrected_limits
from search.console import following, version
from search.derivation.evolution import Evolution
from search.derivation.knapsack import fastest_within
from search.result import BudgetOutcome
from search.run_files import FRONT
from search.runs.certificate import budget_outcomes
from search.runs.search_run import SearchRun
from search.searcher import SupernetTraining
from search.space import network_at

_TOLERANCE = 1e-6
"""By how much a limit is above a network's own cost, so that the derivation can find it."""
_ROUNDS = 2
"""How often networks that are measured to be over a limit are replaced."""

Choices = tuple[int, ...]


@dataclass(frozen=True)
class Front:
    """`pareto.json`: networks by rising budget. Latencies in ms on the first target; accuracies as
    shares, with the supernet's weights on the validation images. Each network has its certificate:
    `budgets`, a `search.result.BudgetOutcome` each, and whether it `meets` all of them."""

    target: str
    space: str
    data: str
    seed: int
    seconds: float
    version: str
    networks: list[dict[str, Any]]

    @property
    def certified(self) -> list[BudgetOutcome]:
        """The budgets of each network in turn."""
        return [BudgetOutcome(**saved) for row in self.networks for saved in row["budgets"]]


def find_front(run: SearchRun, search: SupernetTraining, count: int, bar: Progress) -> Front:
    """Networks for `count` budgets, evenly spaced from the fastest network within the run's other
    budgets to its first budget. Each network is within the other budgets, too.

    If devices can be reached, all networks are measured, and those over a budget are replaced; the
    least budget is the measured latency of the fastest network. Written to `pareto.json`, the
    networks to `pareto/`.
    """
    started, plan = time.monotonic(), run.plan
    choosing = _Choosing(run, run.evolution(search), bar)
    found = choosing.networks(count)
    rows = [
        _row(run, limit, attempt, choosing.evolution.score(attempt.choices).accuracy)
        for limit, attempt in found
    ]
    front = Front(
        target=run.budgets[0].name,
        space=plan.space.tag,
        data=plan.data.name,
        seed=plan.seed,
        seconds=time.monotonic() - started,
        version=version(),
        networks=rows,
    )
    for (_, attempt), row in zip(found, rows, strict=True):
        write_whole(run.folder / row["network"], attempt.network.to_json())
    write_whole(run.folder / FRONT, json.dumps(vars(front), indent=2) + "\n")
    return front


class _Choosing:
    """Networks of a trained supernet for rising limits, and their measurements."""

    def __init__(self, run: SearchRun, evolution: Evolution, bar: Progress) -> None:
        self.run, self.evolution, self.bar = run, evolution, bar
        self.benches = run.benches
        self.known: dict[Choices, Attempt] = {}
        self._show = following(bar, visible=bool(self.benches))

    def networks(self, count: int) -> list[tuple[float, Attempt]]:
        """`count` limits on the first budget, and a network for each. It is over the budget only if
        all measured networks are."""
        first, *others = self.run.summed
        fastest = fastest_within(first.costs, [(other.costs, other.limit) for other in others])
        least_ms = float(first.costs.predict(fastest)[0])
        most_ms = max(least_ms, min(first.limit, first.costs.slowest_ms))
        limits = np.linspace(least_ms, most_ms, count)
        chosen = [fastest, *self._evolved(limits[1:], least_ms)]
        self.evolution.score(fastest)
        self._measure(chosen)
        if fastest_measured := self.known[fastest].measured.get(first.name):
            limits = limits.clip(min(fastest_measured.high_ms, most_ms))
        for _ in range(_ROUNDS):
            over = [i for i, limit in enumerate(limits) if not self._meets(chosen[i], limit)]
            for i in over:
                chosen[i] = self._corrected(chosen[i], limits[i])
            self._measure(chosen[i] for i in over)
        return [
            (float(limit), self._best(choices, limit))
            for choices, limit in zip(chosen, limits, strict=True)
        ]

    def _evolved(self, limits: NDArray[np.float64], least_ms: float) -> list[Choices]:
        """The best network predicted to be within each limit, with a margin if the target will be
        measured."""
        first, *others = self.run.summed
        margin = AIM if first.name in self.benches else 1.0
        aims = np.maximum(margin * limits, (1 + _TOLERANCE) * least_ms).tolist()
        found = self.evolution.front(aims, [other.limit for other in others])
        shown = self.bar.track(found, total=len(aims), description="evolving networks")
        return [scored.choices for scored in shown]

    def _measure(self, chosen: Iterable[Choices]) -> None:
        """Measure the networks that are not known yet on each target that can be reached."""
        fresh = [
            attempt_of(self.run.plan.space, choices, self.run.summed)
            for choices in dict.fromkeys(chosen)
            if choices not in self.known
        ]
        measured = {}
        for name, bench in self.benches.items() if fresh else ():
            batch, rule = bench.card.batch, bench.card.measuring
            own = [Workload.of_network(network_at(one.network, batch)) for one in fresh]
            measured[name] = measure(bench.device, own, rule, None, self._show)
        for attempt in fresh:
            rows = {name: found[attempt.network.name] for name, found in measured.items()}
            self.known[attempt.choices] = replace(attempt, measured=rows)

    def _corrected(self, choices: Choices, limit: float) -> Choices:
        """The best network scored so far that is within the budgets by predictions corrected with
        the measurement of `choices`; `choices` if there is none."""
        attempt = self.known[choices]
        budgets = self._budgets(limit)
        limits = corrected_limits(budgets, attempt.measured.keys(), attempt.corrections)
        best = self.evolution.best_known(limits)
        return best.choices if best else choices

    def _best(self, choices: Choices, limit: float) -> Attempt:
        """The network `choices` if it is measured to be within the budgets; else the most accurate
        one that is, if any."""
        if self._meets(choices, limit):
            return self.known[choices]
        within = [other for other in self.known if self._meets(other, limit)]
        best = max(within, key=lambda one: self.evolution.score(one).fitness, default=choices)
        return self.known[best]

    def _meets(self, choices: Choices, limit: float) -> bool:
        return self.known[choices].meets(self._budgets(limit))

    def _budgets(self, limit: float) -> Sequence[Budget]:
        first, *others = self.run.summed
        return [replace(first, limit=limit), *others]


def _row(run: SearchRun, limit: float, attempt: Attempt, accuracy: float) -> dict[str, Any]:
    first, *others = run.budgets
    budgets = [replace(first, limit=limit), *others]
    results = budget_outcomes(budgets, attempt, attempt.measured)
    return {
        "budget_ms": limit,
        "choices": list(attempt.choices),
        "predicted_ms": results[0].predicted,
        "measured_ms": results[0].measured,
        "measured_low_ms": results[0].measured_low,
        "measured_high_ms": results[0].measured_high,
        "meets": all(result.meets for result in results),
        "budgets": [asdict(result) for result in results],
        "valid_accuracy": accuracy,
        "macs": macs_of_one(attempt.network),
        "params": attempt.network.params,
        "network": f"pareto/{attempt.network.name}.json",
    }
