"""From a trained supernet to the deployed network: derived, trained, measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.progress import Progress

from latency.atomic_file import write_whole
from latency.tables.measurement import Measurement
from search.confirmation import Attempt, Choose, derive_confirmed, export
from search.derivation.knapsack import MostProbable
from search.runs.checkpoints import keep_attempts, kept_attempts
from search.runs.search_run import SearchRun
from search.searcher import SupernetTraining
from search.training.network_training import NetworkTraining

_TRAININGS = 3
"""How many networks are trained at most, until one is within the budgets."""


@dataclass(frozen=True)
class FoundNetwork:
    """All `attempts`, the last of which is the result, its training, and the measurements of its
    deployed files by the targets' names."""

    attempts: Sequence[Attempt]
    training: NetworkTraining
    measured: Mapping[str, Measurement]

    @property
    def attempt(self) -> Attempt:
        """The network found."""
        return self.attempts[-1]


def find_network(run: SearchRun, search: SupernetTraining, bar: Progress) -> FoundNetwork:
    """Derive a network that meets the budgets, train it, and measure its deployed files. If they
    are over a budget, correct the latency models and start over, a few times at most."""
    choose, attempts = _chooser(run, search), list[Attempt]()
    for number in range(_TRAININGS):
        attempts += derived(run, choose, attempts[-1:], number, bar)
        chosen = attempts[-1]
        phase = f"train-{run.plan.space.label(chosen.choices)}"
        training = run.train(chosen.network, phase, "training the network", bar)
        write_whole(run.folder / "model.onnx", export(chosen.network, training.module))
        measured = run.measure_deployed(chosen.network, training.module, bar, run.folder)
        final = replace(chosen, measured=measured)
        if final.meets(run.budgets):
            break
        attempts.append(final)
        fastest = np.nanargmin(run.budgets[0].costs.matrix, axis=1)
        if chosen.choices == tuple(fastest.tolist()):
            break
    write_whole(run.folder / "network.json", attempts[-1].network.to_json())
    return FoundNetwork(attempts, training, measured)


def derived(
    run: SearchRun, choose: Choose, before: Sequence[Attempt], number: int, bar: Progress
) -> Sequence[Attempt]:
    """Derive a network, and measure it if devices can be reached. Networks that an interrupted run
    derived with the same costs are read from the folder."""
    checkpoint = run.checkpoints.of(f"derived-{number}")
    if kept := kept_attempts(checkpoint, run.plan.space, run.summed):
        return kept
    attempts = derive_confirmed(
        run.plan.space,
        choose,
        run.summed,
        measures=run.measures(bar, "measuring derived networks"),
        corrections=before[-1].corrections if before else None,
    )
    keep_attempts(checkpoint, run.summed, attempts)
    return attempts


def _chooser(run: SearchRun, search: SupernetTraining) -> Choose:
    if run.plan.settings.strategy == "evolution":
        return run.evolution(search)
    costs = [budget.costs for budget in run.summed]
    if run.benches:
        return MostProbable(search.utility, costs)
    return MostProbable(search.utility, costs, band=1.0)
