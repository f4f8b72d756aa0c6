"""Networks from fastest to slowest out of one trained supernet, without training again."""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from devices.device import Workload
from devices.measuring.rounds import measure
from latency.atomic_file import write_whole
from latency.errors import SpecError
from latency.operators.network import NetworkSpec
from search.budget import Budget, macs_of_one
from search.confirmation import AIM, Attempt, corrected_limits, predictions
from search.console import following, notice, version
from search.derivation.evolution import Evolution
from search.derivation.knapsack import fastest_within
from search.report.files import ResultFile, read_back
from search.result import BudgetOutcome
from search.run_files import FRONT, RESULT
from search.runs.certificate import budget_outcomes
from search.runs.search_run import SearchRun
from search.searcher import SupernetTraining

_TOLERANCE = 1e-6
"""By how much a limit is above a network's own cost for the derivation to have room for it."""
_ROUNDS = 2
"""How often networks that are over a limit once measured are chosen anew."""

Choices = tuple[int, ...]


@dataclass(frozen=True)
class Front:
    """A Pareto front: networks by rising budget; latencies in ms on the first target, accuracies
    as shares, with the supernet's weights on the validation images. Each with its certificate:
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
        """Of each network in turn, what it uses of each budget."""
        return [BudgetOutcome(**saved) for row in self.networks for saved in row["budgets"]]


def find_front(run: SearchRun, search: SupernetTraining, count: int, bar: Progress) -> Front:
    """Networks for `count` budgets spread evenly from the fastest network of the run's space that
    is within its other budgets, to the run's first budget; each within the other budgets as well.

    Where devices are at hand, all are measured, and one that is over a budget gives way to
    another; the least budget is what the fastest network takes as measured. Written to
    `pareto.json`, the networks to `pareto/`, and into the `result.json` of the run that is in the
    same folder, where there is one.
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
    _keep(front, [attempt.network for _, attempt in found], run.folder)
    return front


class _Choosing:
    """Networks of a trained supernet for rising limits, and what was measured of them."""

    def __init__(self, run: SearchRun, evolution: Evolution, bar: Progress) -> None:
        self.run, self.evolution, self.bar = run, evolution, bar
        self.at_hand = run.at_hand
        self.known: dict[Choices, Attempt] = {}
        self._show = following(bar, visible=bool(self.at_hand))

    def networks(self, count: int) -> list[tuple[float, Attempt]]:
        """`count` limits on the first budget, and a network for each; one that is over a budget
        only where all are that were measured."""
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
        """The best network predicted to be within each of the limits, with room where the target
        will be measured."""
        first, *others = self.run.summed
        is_measured = first.name in [one.name for one in self.at_hand]
        room = AIM if is_measured else 1.0
        aims = np.maximum(room * limits, (1 + _TOLERANCE) * least_ms).tolist()
        task = self.bar.add_task("evolving networks", total=len(aims))
        found = []
        for scored in self.evolution.front(aims, [other.limit for other in others]):
            found.append(scored.choices)
            self.bar.update(task, advance=1)
        return found

    def _measure(self, chosen: Iterable[Choices]) -> None:
        """Measure those of the networks that were not, on each target at hand."""
        fresh = [choices for choices in dict.fromkeys(chosen) if choices not in self.known]
        networks = [self.run.plan.space.network(choices) for choices in fresh]
        measured = {}
        for one in self.at_hand if fresh else ():
            own = [Workload.of_network(one.network(network)) for network in networks]
            found = measure(one.device, own, one.card.measuring, on_progress=self._show)
            measured[one.name] = found
        for choices, network in zip(fresh, networks, strict=True):
            predicted = predictions(self.run.summed, choices)
            rows = {name: those[network.name] for name, those in measured.items()}
            self.known[choices] = Attempt(choices, network, predicted, rows)

    def _corrected(self, choices: Choices, limit: float) -> Choices:
        """The best network scored so far that is within the budgets by predictions as corrected by
        what was measured of the one given; that one where none is."""
        attempt = self.known[choices]
        budgets = self._budgets(limit)
        limits = corrected_limits(budgets, attempt.measured.keys(), attempt.corrections)
        best = self.evolution.best_known(limits)
        return best.choices if best else choices

    def _best(self, choices: Choices, limit: float) -> Attempt:
        """The network given, if it is within the budgets as measured; else the most accurate one
        that is; where none is, the one given."""
        if self._meets(choices, limit):
            return self.known[choices]
        within = [other for other in self.known if self._meets(other, limit)]
        ranked = sorted(within, key=lambda other: self.evolution.score(other).fitness)
        return self.known[ranked[-1] if ranked else choices]

    def _meets(self, choices: Choices, limit: float) -> bool:
        return self.known[choices].meets(self._budgets(limit))

    def _budgets(self, limit: float) -> Sequence[Budget]:
        first, *others = self.run.summed
        return [replace(first, limit=limit), *others]


def _row(run: SearchRun, limit: float, attempt: Attempt, accuracy: float) -> dict[str, Any]:
    first, *others = run.budgets
    budgets = [replace(first, limit=limit), *others]
    results = budget_outcomes(budgets, run.plan.targets, attempt, attempt.measured)
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


def _keep(front: Front, networks: list[NetworkSpec], folder: Path) -> None:
    for network in networks:
        write_whole(folder / "pareto" / f"{network.name}.json", network.to_json())
    write_whole(folder / FRONT, json.dumps(vars(front), indent=2) + "\n")
    result = folder / RESULT
    if result.exists():
        try:
            read_back(result, ResultFile, "a result")
        except SpecError as error:
            notice(f"the Pareto front is in {FRONT} alone: {error}")
            return
        content = json.loads(result.read_bytes()) | {"pareto": front.networks}
        write_whole(result, json.dumps(content, indent=2) + "\n")
