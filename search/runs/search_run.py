"""`SearchRun`: a search as planned, in a folder: its budgets, its checkpoints, its trainings."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.progress import Progress
from torch import Tensor

from latency.atomic_file import write_whole
from latency.candidates import CandidateLatency
from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget, BudgetKind
from search.confirmation import MeasureNetwork, confirm, measure_on
from search.console import following
from search.data import Split
from search.derivation.evolution import Evolution
from search.derivation.fitness import supernet_fitness
from search.jobs.bench import Bench
from search.runs.checkpoints import RunCheckpoints
from search.runs.plan import SearchPlan
from search.runs.progress import Curves, show_steps
from search.runs.tasks import Task
from search.searcher import SupernetTraining
from search.space import network_at
from search.training.checkpoint import Checkpoint
from search.training.network_training import NetworkTraining, StepReport
from search.training.optimizer import accuracy

_EVOLUTION = 5
"""Stream of random numbers of the evolution."""


class SearchRun:
    """A search as planned, whose files are kept in `folder`.

    `budgets`: those of the plan, with the costs as known now. The run resumes from the checkpoints
    in `folder`: the supernet, the networks that were derived and measured, the trained networks.
    """

    def __init__(self, plan: SearchPlan, folder: Path) -> None:
        self.plan, self.folder = plan, folder
        self.budgets = plan.budgets
        self.checkpoints = RunCheckpoints(folder / "checkpoint", plan)

    @property
    def summed(self) -> tuple[Budget, ...]:
        """The budgets of costs that add up over operators."""
        return tuple(budget for budget in self.budgets if budget.adds_up)

    @property
    def latencies(self) -> tuple[Budget, ...]:
        """The budgets of the targets."""
        return tuple(budget for budget in self.budgets if budget.kind is BudgetKind.LATENCY)

    @property
    def sizes(self) -> tuple[Budget, ...]:
        """The budgets that are not of a target."""
        return tuple(budget for budget in self.budgets if budget.kind is not BudgetKind.LATENCY)

    @property
    def benches(self) -> dict[str, Bench]:
        """What the latencies are measured on, by name, if their devices can be reached."""
        found = {budget.name: self.plan.targets[budget.name].bench for budget in self.latencies}
        return {name: bench for name, bench in found.items() if bench}

    def measures(self, bar: Progress, doing: str) -> dict[str, MeasureNetwork]:
        """Functions that measure a network, by the name of the target."""
        benches = self.benches
        show = following(bar, doing, visible=bool(benches))
        return {
            name: measure_on(bench.device, bench.card.measuring, show)
            for name, bench in benches.items()
        }

    def measure_deployed(
        self,
        network: NetworkSpec,
        module: NetworkModule,
        bar: Progress,
        folder: Path | None = None,
    ) -> dict[str, Measurement]:
        """Measure the file that each target's runtime executes; by the name of the target. With a
        `folder`, the files are written there as model.*, and are measured longer while over their
        budgets."""
        benches = self.benches
        show = following(bar, "measuring the trained network", visible=bool(benches))
        limits = {budget.name: budget.limit if folder else math.inf for budget in self.latencies}
        results = {}
        for name, bench in reversed(benches.items()):  # the first target's files are written last
            own, device = network_at(network, bench.card.batch), bench.device
            model = device.build(own, module.folded)
            if folder is not None:
                write_whole((folder / "model").with_suffix(device.suffix), model)
            measuring = bench.card.measuring
            results[name] = confirm(device, own, model, limits[name], measuring, show)
        return results

    def search(self, bar: Progress) -> SupernetTraining:
        """Train the supernet and its architecture, or take over those of a trained run. From then
        on, `budgets` have the costs of the operators that were measured meanwhile."""
        plan, measuring = self.plan, self.plan.as_you_go
        if plan.trained is not None:
            training = self._task().training(plan.data, plan.compute)
            with Checkpoint(plan.trained, {}).restoring():
                training.take_over(self.checkpoints.taken_over(plan.trained))
            if measuring is not None:
                measuring.settle(training.supernet)
        else:
            self._keep_limits()
            training = self._task().shared(plan.data, plan.compute)
            training.revise = measuring
            limits = {budget.name: budget.limit for budget in self.summed}
            show = show_steps(bar, "searching", limits)
            curves = Curves(self.folder / "tensorboard", limits)

            def on_step(report: StepReport) -> None:
                show(report)
                curves(report)

            training.run(self.checkpoints.of("search"), on_step)
        if measuring is not None:
            first, *others = self.budgets
            self.budgets = (measuring.revised(first), *others)
        return training

    def _task(self) -> Task[SupernetTraining]:
        """The training of the supernet, without the latency models, which it does not use."""
        plan = self.plan
        arguments = {
            "space": plan.space,
            "budgets": [replace(budget, model=None) for budget in self.summed],
            "seed": plan.seed,
            "revise": _unrevised if plan.as_you_go else None,
        }
        return Task(SupernetTraining, plan.settings, arguments)

    def _keep_limits(self) -> None:
        """Use the limits that the run began with: a share of the space's range is another limit
        once more operators are measured."""
        checkpoint = self.checkpoints.of("limits")
        limits = checkpoint.load()
        if limits is None:
            checkpoint.save({budget.name: budget.limit for budget in self.summed})
            return
        with checkpoint.restoring():
            kept = {budget.name: float(limits[budget.name]) for budget in self.summed}
        self.budgets = tuple(
            replace(budget, limit=kept.get(budget.name, budget.limit)) for budget in self.budgets
        )

    def evolution(self, search: SupernetTraining) -> Evolution:
        """Evolution over the networks of a trained supernet."""
        plan = self.plan
        return Evolution(
            search.utility,
            [budget.costs for budget in self.summed],
            supernet_fitness(search.supernet, plan.data.valid, plan.space.resolution),
            np.random.default_rng((plan.seed, _EVOLUTION)),
            plan.settings.evolution_children,
        )

    def train(self, network: NetworkSpec, phase: str, doing: str, bar: Progress) -> NetworkTraining:
        """Train a network from scratch, from the checkpoint of this phase if there is one."""
        plan = self.plan
        task = Task(NetworkTraining, plan.settings, {"network": network, "seed": plan.seed})
        training = task.shared(plan.data, plan.compute)
        training.run(self.checkpoints.of(phase), show_steps(bar, doing))
        return training

    def accuracy(self, training: NetworkTraining, split: Split) -> float:
        """Share of a split that a trained network classifies correctly."""
        plan = self.plan
        return accuracy(training.module, split, plan.space.resolution, plan.settings.workers)


def _unrevised(probabilities: Tensor) -> Mapping[str, CandidateLatency]:
    return {}  # only the first process measures
