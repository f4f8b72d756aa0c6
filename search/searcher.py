"""The two trainings of a run: the supernet with its architecture, and the derived network.

Both are series of steps, each a pure function of the state before it, the seed and the step's
number. So a run resumed from a checkpoint ends like an unbroken one.
"""

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
from search.data import BatchStream, Dataset, Split
from search.settings import SearchSettings
from search.space import SearchSpace
from search.strategies import make_strategy
from search.strategies.base import ArchitectureStep
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.checkpoint import Checkpoint
from search.training.compute import ON_CPU, Compute
from search.training.failures import explained
from search.training.history import Entry, entries, in_columns
from search.training.network_training import (
    ARCH_BATCHES,
    ARCH_PATHS,
    WEIGHT_BATCHES,
    WEIGHT_PATHS,
    OnStep,
    StepReport,
    keep_parameters,
    step_of,
)
from search.training.optimizer import Cosines, WeightOptimizer, seeded

_SNAPSHOTS = 50
"""About how often the path probabilities are kept in a search's history."""


Revise = Callable[[Tensor], Mapping[str, CandidateLatency]]
"""From path probabilities (blocks, candidates) to costs that have become better known since, by
the name of their budget; NaN is the cost of a candidate that is to be left out."""


class SupernetTraining:
    """Warm-up of the weights, then weights on the training split and architecture on the
    validation split in turn, whose images it sees as they are evaluated. Raises `UsageError` for
    batches, also those of the network to be derived, that do not fall into the parts that
    `compute` makes of them."""

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
            self.supernet = compute.place(SuperNet(space))
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
        self._weight_batches = self._stream(data.train, settings.batch_size, WEIGHT_BATCHES)
        self._arch_batches = self._stream(
            data.valid, settings.arch_batch_size, ARCH_BATCHES, settings.arch_every, augment=False
        )
        self.step = 0
        self.history: list[Entry] = []

    @property
    def utility(self) -> NDArray[np.float64]:
        """Log probabilities of the candidates, shape (blocks, candidates)."""
        return self.supernet.log_probabilities.detach().double().cpu().numpy()

    def run(self, checkpoint: Checkpoint, on_step: OnStep) -> None:
        """Go on from the checkpoint, if there is one, to the last step. Only the first rank reads
        and writes the checkpoint and tells of its steps. Raises `LatError` for a step that cannot
        be made (`search.training.failures`)."""
        ranks = self.compute.ranks
        if state := ranks.from_first(checkpoint.load):
            with checkpoint.restoring():
                self._restore(state)
        while self.step < self.total_steps:
            path = self.supernet.sample(self._generator(WEIGHT_PATHS))
            batch = self._weight_batches.at(self.step)
            loss = self.optimizer.step(self.step, partial(self.supernet, path=path), *batch)
            report = self._finished_step(loss)
            if report.expected is not None:
                self.history.append(self._entry(report))
            if self.step == self.total_steps:
                ranks.average_buffers(self.supernet)
            if ranks.is_first:
                checkpoint.release()
                on_step(report)
                keep_parameters(checkpoint, self._state, self.step == self.total_steps)
        self._weight_batches.close()
        self._arch_batches.close()

    def take_over(self, state: dict[str, Any]) -> None:
        """The weights, the architecture and the history of a run that is done. Raises `UsageError`
        for one that is not."""
        step, total_steps = state["step"], state["total_steps"]
        if step < total_steps:
            raise UsageError(
                f"the supernet to take has been trained for {step} of {total_steps} steps; go on "
                "with its own search first, by --resume"
            )
        self.supernet.load_state_dict(state["supernet"])
        self.history = entries(state["history"])
        self.step = self.total_steps

    def _finished_step(self, loss: float) -> StepReport:
        """A step whose weights have moved: the architecture moves too where it is time to."""
        searched = self.step - self.settings.warmup_steps
        is_arch_step = searched >= 0 and (searched + 1) % self.settings.arch_every == 0
        if is_arch_step:
            self._revise()
        arch = self._architecture_step() if is_arch_step and self.strategy else {}
        self.step += 1
        return StepReport(self.step, self.total_steps, loss, self.optimizer.rate, **arch)

    def _architecture_step(self) -> dict[str, Any]:
        strategy = self.strategy
        assert strategy is not None
        images, labels = self.compute.bring(*self._arch_batches.at(self.step))

        ranks = self.compute.ranks

        def attempt(size: int) -> ArchitectureStep:
            generator = self._generator(ARCH_PATHS)
            return strategy.step(images[:size], labels[:size], generator)

        rate, group = self.settings.learning_rate, self.compute.norm_batch_size
        with explained(self.step, rate, len(images), attempt, ranks, group):
            seen = attempt(len(images))
        probabilities = self.supernet.probabilities.detach()
        return {
            "expected": seen.expected,
            "multipliers": seen.multipliers,
            "valid_loss": seen.task_loss,
            "entropy": float(torch.special.entr(probabilities).sum(-1).mean()),
            "probabilities": probabilities if self._is_snapshot() else None,
        }

    def _is_snapshot(self) -> bool:
        """Whether this architecture step is one whose probabilities are kept."""
        every = max(1, self.settings.search_steps // self.settings.arch_every // _SNAPSHOTS)
        return len(self.history) % every == 0 or self.step + 1 == self.total_steps

    def _revise(self) -> None:
        """Go by what has become known since, on all ranks."""
        if (revise := self.revise) is None:
            return
        probabilities = self.supernet.probabilities.detach()
        known = self.compute.ranks.from_first(lambda: revise(probabilities))
        for name, costs in known.items():
            self.hardware.revise(name, costs)
            self.supernet.leave_out(np.isnan(costs.matrix))

    def _entry(self, report: StepReport) -> Entry:
        """An architecture step as the history keeps it."""
        entry: Entry = {
            "step": report.step,
            "train_loss": report.train_loss,
            "valid_loss": report.valid_loss,
            "entropy": report.entropy,
            "expected": dict(report.expected or {}),
            "multiplier": dict(report.multipliers or {}),
        }
        if report.probabilities is not None:
            entry["probabilities"] = report.probabilities.tolist()
        return entry

    def _stream(
        self, split: Split, size: int, stream: int, every: int = 1, augment: bool = True
    ) -> BatchStream:
        seed = (self.seed, stream)
        workers = self.settings.workers
        part = self.compute.ranks.part
        return BatchStream(split, size, seed, self.space.resolution, workers, every, part, augment)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, self.step))

    def _state(self) -> dict:
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.state,
            "strategy": self.strategy.state if self.strategy else {},
            "history": in_columns(self.history),
        }

    def _restore(self, state: dict) -> None:
        self.step = step_of(state, self.total_steps)
        self.history = entries(state["history"])
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.restore(state["optimizer"])
        if self.strategy is not None:
            self.strategy.restore(state["strategy"])
