"""`SupernetTraining`: the training of a supernet's weights and of its architecture.

Each step depends only on the state, the seed and the step's number, so a run resumed from a
checkpoint ends like an uninterrupted one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latency.candidates import CandidateLatency
from latency.errors import UsageError
from search.budget import Budget
from search.data import BatchStream, Dataset
from search.settings import SearchSettings
from search.space import SearchSpace
from search.strategies import make_strategy
from search.strategies.base import ArchitectureStep, Strategy
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.compute import ON_CPU, Compute
from search.training.failures import explained
from search.training.network_training import (
    ARCH_BATCHES,
    ARCH_PATHS,
    WEIGHT_BATCHES,
    WEIGHT_PATHS,
    StepReport,
    Training,
)
from search.training.optimizer import Cosines, WeightOptimizer, seeded

_SNAPSHOTS = 50
"""About how often a search's history keeps the path probabilities."""


Revise = Callable[[Tensor], Mapping[str, CandidateLatency]]
"""From path probabilities (blocks, candidates) to costs that have become better known since, by
the name of their budget; NaN is the cost of a candidate that is to be left out."""


class SupernetTraining(Training):
    """Warm-up of the weights, then alternating steps: weights on the training split, architecture
    on the validation split without augmentation. Raises `UsageError` for batch sizes, including
    that of the derived network's training, that `compute` cannot divide."""

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        budgets: Sequence[Budget],
        settings: SearchSettings,
        seed: int,
        revise: Revise | None = None,
        compute: Compute = ON_CPU,
    ) -> None:
        compute.check(settings.batch_size, settings.arch_batch_size, settings.train_batch_size)
        with seeded(seed):
            self.module = self.supernet = compute.place(SuperNet(space))
        self.compute = compute
        self.space, self.data, self.settings, self.seed = space, data, settings, seed
        self.total_steps = settings.warmup_steps + settings.search_steps
        self.optimizer = WeightOptimizer(
            self.supernet.weights(), settings, Cosines(settings.search_cosines), compute
        )
        self.hardware = HardwareTerm(budgets, settings.penalty)
        for budget in budgets:
            self.supernet.leave_out(np.isnan(budget.costs.matrix))
        self.strategy = make_strategy(self.supernet, self.hardware, settings, compute)
        self.revise = revise
        self._weight_batches = BatchStream(
            data.train,
            settings.batch_size,
            (seed, WEIGHT_BATCHES),
            space.resolution,
            settings.workers,
            part=compute.ranks.part,
        )
        self._arch_batches = BatchStream(
            data.valid,
            settings.arch_batch_size,
            (seed, ARCH_BATCHES),
            space.resolution,
            settings.workers,
            every=settings.arch_every,
            part=compute.ranks.part,
            augment=False,
        )
        self.streams = [self._weight_batches, self._arch_batches]
        self.history: list[dict[str, Any]] = []

    @property
    def utility(self) -> NDArray[np.float64]:
        """Log probabilities of the candidates, shape (blocks, candidates)."""
        return self.supernet.log_probabilities.detach().double().cpu().numpy()

    def take_over(self, state: dict[str, Any]) -> None:
        """Take the weights, the architecture and the history of a finished run. Raises `UsageError`
        for an unfinished one."""
        step, total_steps = state["step"], state["total_steps"]
        if step < total_steps:
            raise UsageError(
                f"the supernet has been trained for {step} of {total_steps} steps only; first "
                "`resume` its own search"
            )
        self.supernet.load_state_dict(state["supernet"])
        self.history = json.loads(state["history"])
        self.step = self.total_steps

    def _one_step(self) -> StepReport:
        path = self.supernet.sample(self._generator(WEIGHT_PATHS))
        batch = self._weight_batches.at(self.step)
        loss = self.optimizer.step(self.step, partial(self.supernet, path=path), *batch)
        searched = self.step - self.settings.warmup_steps
        arch: dict[str, Any] = {}
        if searched >= 0 and (searched + 1) % self.settings.arch_every == 0:
            self._revise()
            if self.strategy is not None:
                arch = self._architecture_step(self.strategy)
        self.step += 1
        report = StepReport(self.step, self.total_steps, loss, self.optimizer.rate, **arch)
        if arch:
            self.history.append(_entry(report))
        return report

    def _architecture_step(self, strategy: Strategy) -> dict[str, Any]:
        """Make an architecture step; returns its fields of a `StepReport`."""
        images, labels = self.compute.bring(*self._arch_batches.at(self.step))

        def attempt(size: int) -> ArchitectureStep:
            generator = self._generator(ARCH_PATHS)
            return strategy.step(images[:size], labels[:size], generator)

        with explained(self.step, self.settings.learning_rate, len(images), attempt, self.compute):
            done = attempt(len(images))
        probabilities = self.supernet.probabilities.detach()
        every = max(1, self.settings.search_steps // self.settings.arch_every // _SNAPSHOTS)
        is_snapshot = len(self.history) % every == 0 or self.step + 1 == self.total_steps
        return {
            "expected": done.expected,
            "multipliers": done.multipliers,
            "valid_loss": done.task_loss,
            "entropy": float(torch.special.entr(probabilities).sum(-1).mean()),
            "probabilities": probabilities if is_snapshot else None,
        }

    def _revise(self) -> None:
        """Use improved costs, if there are any, on all ranks."""
        if (revise := self.revise) is None:
            return
        probabilities = self.supernet.probabilities.detach()
        improved = self.compute.ranks.from_first(lambda: revise(probabilities))
        for name, costs in improved.items():
            self.hardware.revise(name, costs)
            self.supernet.leave_out(np.isnan(costs.matrix))

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, self.step))

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state,
            "strategy": self.strategy.state if self.strategy else {},
            "history": json.dumps(self.history),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.history = json.loads(state["history"])
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.restore(state["optimizer"])
        if self.strategy is not None:
            self.strategy.restore(state["strategy"])


def _entry(report: StepReport) -> dict[str, Any]:
    """The history's entry of an architecture step."""
    names = ("step", "train_loss", "valid_loss", "entropy", "expected")
    entry = {name: getattr(report, name) for name in names} | {"multiplier": report.multipliers}
    if report.probabilities is not None:
        entry["probabilities"] = report.probabilities.tolist()
    return entry
