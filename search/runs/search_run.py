"""One search, from the supernet's training to the certificate."""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from devices.card import DeviceCard
from devices.device import Device
from devices.measuring.rounds import OnProgress
from latency.atomic_file import write_whole
from latency.modules import NetworkModule
from latency.names import digest
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget, macs_of_one
from search.confirmation import (
    Attempt,
    Choose,
    MeasureNetwork,
    confirm,
    derive_confirmed,
    export,
    measure_on,
    predictions,
)
from search.console import following, progress_bar, version
from search.data import Dataset, Split
from search.derivation.evolution import Evolution
from search.derivation.fitness import supernet_fitness
from search.derivation.knapsack import MostProbable
from search.result import SearchResult
from search.runs.certificate import budget_results, largest_share
from search.runs.checkpoints import RunCheckpoints, as_dict, keep_attempts, kept_attempts
from search.runs.curves import Curves
from search.runs.environment import run_facts
from search.runs.goals import Goal
from search.runs.orders import SearchOrder, TrainOrder, shared_search, shared_training
from search.runs.plan import SearchPlan
from search.runs.progress import show_steps
from search.searcher import SupernetTraining
from search.space import network_at
from search.training.checkpoint import Checkpoint
from search.training.compute import ON_CPU, Compute
from search.training.network_training import NetworkTraining, StepReport
from search.training.optimizer import accuracy

_TRAININGS = 3
"""How often a network that proves over budget once trained is derived and trained anew."""

_EVOLUTION = 5
"""Stream of random numbers of the evolution."""

Compare = Callable[["SearchJob", Attempt, Progress], list[dict[str, Any]]]
"""From a job and what it found to rows of networks to compare it with."""


class SearchJob:
    """A search as planned, whose files are kept in `folder`.

    The job goes on from what it finds in `folder`: the supernet's checkpoint, the networks that
    were derived and measured already, the trained network's checkpoint. `trained`: the checkpoint
    of another run, whose supernet is taken instead of training one.
    """

    def __init__(
        self,
        plan: SearchPlan,
        data: Dataset,
        seed: int,
        folder: Path,
        trained: Path | None = None,
        compute: Compute = ON_CPU,
    ) -> None:
        self.goals, self.sizes, self.memory = plan.goals, plan.sizes, plan.memory
        self.space, self.as_you_go, self.sigmas = plan.space, plan.as_you_go, plan.sigmas
        self.data, self.settings, self.seed = data, plan.settings, seed
        self.folder, self.trained, self.compute = folder, trained, compute
        self.checkpoints = RunCheckpoints(folder / "checkpoint", plan, data.name, seed, trained)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Those of the goals, by what is known of their costs now, and of the sizes."""
        return (*(goal.budget for goal in self.goals), *self.sizes)

    @property
    def batch(self) -> int:
        """The largest that a target computes at once."""
        return max(goal.target.batch for goal in self.goals)

    def run(
        self, started: float, quiet: bool, with_largest: bool, compare: Compare
    ) -> SearchResult:
        """Search, derive, train, export and measure. `started`: on the monotonic clock.
        `compare`: trains and measures networks to compare the one found with."""
        with progress_bar(quiet) as bar:
            search = self.search(bar)
            utility = search.supernet.log_probabilities.detach().double().cpu().numpy()
            choose = self._chooser(search, utility)
            attempts, training, measured = self._derive_and_train(choose, bar)
            chosen = attempts[-1]
            largest = self._largest(bar) if with_largest else None
            baselines = compare(self, chosen, bar)
        results = budget_results(self.goals, self.sizes, self.memory, chosen, measured)
        first = results[0]
        result = SearchResult(
            target=first.name,
            space=self.space.tag,
            data=self.data.name,
            strategy=self.settings.strategy,
            budget_ms=first.limit,
            predicted_ms=first.predicted,
            predicted_low_ms=first.predicted_low,
            predicted_high_ms=first.predicted_high,
            measured_ms=first.measured,
            measured_low_ms=first.measured_low,
            measured_high_ms=first.measured_high,
            meets_budget=all(one.meets for one in results),
            budgets=results,
            valid_accuracy=self._accuracy(training, self.data.valid),
            test_accuracy=self._accuracy(training, self.data.test),
            macs=macs_of_one(chosen.network),
            params=chosen.network.params,
            seconds=time.monotonic() - started,
            seed=self.seed,
            choices=chosen.choices,
            candidates=[[op.key if op else None for op in block] for block in self.space.blocks],
            settings=self.settings.as_dict,
            attempts=[as_dict(attempt) for attempt in attempts],
            history=search.history,
            probabilities=np.exp(utility).tolist(),
            table=first.table or "",
            version=version(),
            command=[Path(sys.argv[0]).name, *sys.argv[1:]],
            largest=largest,
            baselines=baselines,
            failed=self.as_you_go.failed if self.as_you_go else {},
            **run_facts(self.goals, self.space, self.compute, chosen.network),
        )
        write_whole(self.folder / "network.json", chosen.network.to_json())
        result.save(self.folder / "result.json")
        return result

    def search(self, bar: Progress) -> SupernetTraining:
        """Train the supernet and its architecture, or take over those of a trained run. What was
        measured meanwhile, or is then by the probabilities taken over, counts from then on."""
        if self.trained is not None:
            training = self._order().training(self.data, self.compute)
            with Checkpoint(self.trained, {}).restoring():
                training.take_over(self.checkpoints.taken_over(self.trained))
            if self.as_you_go is not None:
                self.as_you_go.settle(training.supernet)
        else:
            training = self._trained_anew(bar)
        if self.as_you_go is not None:
            first, *others = self.goals
            self.goals = (self.as_you_go.revised(first), *others)
        return training

    def _trained_anew(self, bar: Progress) -> SupernetTraining:
        """The training of a supernet, from its last checkpoint to its end."""
        self._keep_limits()
        training = shared_search(self._order(), self.data, self.compute)
        training.revise = self.as_you_go
        limits = {budget.name: budget.limit for budget in self.budgets}
        show = show_steps(bar, "searching", limits)
        curves = Curves(self.folder / "tensorboard", limits)

        def on_step(report: StepReport) -> None:
            show(report)
            curves(report)

        training.run(self.checkpoints.of("search"), on_step)
        return training

    def _order(self) -> SearchOrder:
        words = self.space, self.budgets, self.settings, self.seed
        return SearchOrder(*words, revises=self.as_you_go is not None)

    def _keep_limits(self) -> None:
        """Hold on to the limits that the run began with: what was asked for as a share of the
        space's range would be another one where more is known of the range by now."""
        checkpoint = self.checkpoints.of("limits")
        limits = checkpoint.load()
        if limits is None:
            checkpoint.save({budget.name: budget.limit for budget in self.budgets})
            return
        with checkpoint.restoring():
            kept = {budget.name: float(limits[budget.name]) for budget in self.budgets}
        self.goals = tuple(
            replace(goal, budget=replace(goal.budget, limit=kept[goal.budget.name]))
            for goal in self.goals
        )
        self.sizes = tuple(replace(size, limit=kept[size.name]) for size in self.sizes)

    def _training(self, network: NetworkSpec) -> NetworkTraining:
        order = TrainOrder(network, self.settings, self.seed)
        return shared_training(order, self.data, self.compute)

    def evolution(self, search: SupernetTraining, utility: NDArray[np.float64]) -> Evolution:
        """Evolution over the networks of a trained supernet."""
        return Evolution(
            utility,
            [budget.costs for budget in self.budgets],
            supernet_fitness(search.supernet, self.data.valid, self.space.resolution),
            np.random.default_rng((self.seed, _EVOLUTION)),
            self.settings.evolution_children,
        )

    def _chooser(self, search: SupernetTraining, utility: NDArray[np.float64]) -> Choose:
        if self.settings.strategy == "evolution":
            return self.evolution(search, utility)
        costs = [budget.costs for budget in self.budgets]
        if self.at_hand:
            return MostProbable(utility, costs)
        return MostProbable(utility, costs, band=1.0)

    def _derive_and_train(
        self, choose: Choose, bar: Progress
    ) -> tuple[list[Attempt], NetworkTraining, dict[str, Measurement]]:
        """Derive a network that meets the budgets, train it, and measure what is deployed. Where
        that proves over budget, correct the latency models and start over, a few times at most.
        All attempts (the last one counts), its training, and what was measured of its files."""
        attempts: list[Attempt] = []
        for number in range(_TRAININGS):
            attempts += self._derive(choose, attempts[-1:], number, bar)
            chosen = attempts[-1]
            training = self.train(chosen, bar)
            onnx_model = export(chosen.network, training.module)
            write_whole(self.folder / "model.onnx", onnx_model)
            measured = self._measure_trained(chosen.network, training.module, bar, keep=True)
            final = Attempt(chosen.choices, chosen.network, chosen.predicted, measured)
            if not measured or final.meets(self.budgets):
                break
            attempts.append(final)
            fastest = np.nanargmin(self.budgets[0].costs.matrix, axis=1)
            if chosen.choices == tuple(fastest.tolist()):
                break
        return attempts, training, measured

    @property
    def at_hand(self) -> list[tuple[Goal, Device, DeviceCard]]:
        """The goals on targets that can be measured, and what on."""
        return [(g, *g.target.at_hand) for g in self.goals if g.target.at_hand is not None]

    def measures(self, show: OnProgress) -> dict[str, MeasureNetwork]:
        """How a network is measured on each target at hand, at its batch, by its budget's name."""
        return {
            goal.budget.name: _at_batch(measure_on(device, card.measuring, show), card.batch)
            for goal, device, card in self.at_hand
        }

    def _derive(
        self, choose: Choose, before: Sequence[Attempt], number: int, bar: Progress
    ) -> Sequence[Attempt]:
        """Derive a network, measured as often as it takes where devices are at hand. What a
        broken-off run found out already, by the same costs, is taken from the folder."""
        checkpoint = self.checkpoints.of(f"derived-{number}")
        if kept := kept_attempts(checkpoint, self.space, self.budgets):
            return kept
        show = following(bar, "measuring what was derived", visible=bool(self.at_hand))
        corrections = before[-1].corrections if before else None
        measures = self.measures(show)
        attempts = derive_confirmed(self.space, choose, self.budgets, measures, corrections)
        keep_attempts(checkpoint, self.budgets, attempts)
        return attempts

    def train(self, attempt: Attempt, bar: Progress) -> NetworkTraining:
        """Train a network of the space from scratch."""
        training = self._training(attempt.network)
        phase = f"train-{self.space.label(attempt.choices)}"
        training.run(self.checkpoints.of(phase), show_steps(bar, "training the network"))
        return training

    def _measure_trained(
        self, network: NetworkSpec, module: NetworkModule, bar: Progress, keep: bool = False
    ) -> dict[str, Measurement]:
        """Measure the file that each target's runtime executes; with `keep`, it stays beside
        model.onnx, and is given time to prove within its budget."""
        measured = {}
        show = following(bar, "measuring what was trained", visible=bool(self.at_hand))
        written: set[str] = set()
        for goal, device, card in self.at_hand:
            budget = goal.budget
            own = network_at(network, card.batch)
            model = device.build(own, module.folded)
            if keep and device.suffix not in written:  # of two targets' files, the first one's
                write_whole((self.folder / "model").with_suffix(device.suffix), model)
                written.add(device.suffix)
            limit = budget.limit if keep else math.inf
            measured[budget.name] = confirm(device, own, model, limit, card.measuring, show)
        return measured

    def _largest(self, bar: Progress) -> dict[str, Any]:
        """The space's largest network, trained and measured like the one found."""
        choices = (self.as_you_go or self.space).largest
        network = self.space.network(choices)
        attempt = Attempt(choices, network, predictions(self.budgets, choices))
        return self.trained_and_measured("largest", network, attempt, bar)

    def trained_and_measured(
        self, name: str, network: NetworkSpec, attempt: Attempt | None, bar: Progress
    ) -> dict[str, Any]:
        """A network to compare with, trained and measured like the one found. `attempt`: what is
        known of it, where it is one of the space. `meets`: whether it is within all budgets."""
        training = self._training(network)
        own = digest(op.key for op in network.ops)  # the name may mean another one when resumed
        checkpoint = self.checkpoints.of(f"{name.lower().replace(' ', '-')}-{own}")
        training.run(checkpoint, show_steps(bar, f"training: {name}"))
        first = self.budgets[0].name
        rows = self._measure_trained(network, training.module, bar)
        measured = rows.get(first)
        return {
            "name": name,
            "choices": list(attempt.choices) if attempt else None,
            "predicted_ms": attempt.predicted[first] if attempt else None,
            "measured_ms": measured.median_ms if measured else None,
            "meets": self._is_within(network, attempt, rows),
            "valid_accuracy": self._accuracy(training, self.data.valid),
            "test_accuracy": self._accuracy(training, self.data.test),
            "macs": macs_of_one(network),
            "params": network.params,
        }

    def _is_within(
        self, network: NetworkSpec, attempt: Attempt | None, measured: Mapping[str, Measurement]
    ) -> bool:
        """Whether a network is within the budgets, as measured or else as predicted, as far as
        either is known."""
        taken = {**attempt.predicted} if attempt else {}
        taken |= {name: row.high_ms for name, row in measured.items()}
        known = [budget for budget in self.budgets if budget.name in taken]
        size = largest_share(network, self.sizes, self.memory, self.batch)
        return size <= 1 and all(taken[budget.name] <= budget.limit for budget in known)

    def _accuracy(self, training: NetworkTraining, split: Split) -> float:
        return accuracy(training.module, split, self.space.resolution, self.settings.workers)


def _at_batch(measure: MeasureNetwork, batch: int) -> MeasureNetwork:
    """What measures networks at a target's batch, whichever they are written for."""
    return lambda network: measure(network_at(network, batch))
