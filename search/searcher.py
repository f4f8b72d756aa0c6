"""The two trainings of a run: the supernet with its architecture, and the derived network.

Both are series of steps, each a pure function of the state before it, the seed and the step's
number. So a run resumed from a checkpoint ends like an unbroken one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency.candidates import CandidateLatency
from latency.modules import NetworkModule
from latency.network import NetworkSpec
from search.budget import Budget
from search.checkpoint import Checkpoint
from search.data import BatchStream, Dataset, Split
from search.hardware import HardwareTerm
from search.settings import SearchSettings
from search.space import SearchSpace
from search.strategies import make_strategy
from search.supernet import SuperNet
from search.training import WeightOptimizer, seeded

_WEIGHT_BATCHES, _WEIGHT_PATHS, _ARCH_BATCHES, _ARCH_PATHS, _TRAIN_BATCHES = range(5)
"""Streams of random numbers, independent of each other."""


_SNAPSHOTS = 50
"""About how often the path probabilities are kept in a search's history."""


@dataclass(frozen=True)
class StepReport:
    """What a step did: `step` of `total_steps`, and its loss; in an architecture step also the
    expected costs and the multipliers by the budgets' names, the validation loss, and the mean
    entropy (nats) of the blocks' choices."""

    step: int
    total_steps: int
    train_loss: float
    expected: Mapping[str, float] | None = None
    multipliers: Mapping[str, float] | None = None
    valid_loss: float | None = None
    entropy: float | None = None


OnStep = Callable[[StepReport], None]

Revise = Callable[[Tensor], Mapping[str, CandidateLatency]]
"""From path probabilities (blocks, candidates) to costs that have become better known since, by
the name of their budget."""


class SupernetTraining:
    """Warm-up of the weights, then weights on the training split and architecture on the
    validation split in turn."""

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        budgets: Sequence[Budget],
        settings: SearchSettings,
        seed: int,
        revise: Revise | None = None,
    ) -> None:
        with seeded(seed):
            self.supernet = SuperNet(space).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.space, self.data, self.settings, self.seed = space, data, settings, seed
        self.total_steps = settings.warmup_steps + settings.search_steps
        self.optimizer = WeightOptimizer(
            self.supernet.weights(), settings, settings.learning_rate, self.total_steps
        )
        self.hardware = HardwareTerm(budgets, settings.penalty)
        self.strategy = make_strategy(self.supernet, self.hardware, settings)
        self.revise = revise
        self._weight_batches = self._stream(data.train, settings.batch_size, _WEIGHT_BATCHES)
        self._arch_batches = self._stream(
            data.valid, settings.arch_batch_size, _ARCH_BATCHES, settings.arch_every
        )
        self.step = 0
        self.history: list[dict[str, Any]] = []

    def run(self, checkpoint: Checkpoint, on_step: OnStep) -> None:
        """Go on from the checkpoint, if there is one, to the last step."""
        if state := checkpoint.load():
            self._restore(state)
        while self.step < self.total_steps:
            report = self._one_step()
            on_step(report)
            if report.expected is not None:
                self.history.append(self._entry(report))
            if checkpoint.is_due() or self.step == self.total_steps:
                checkpoint.save(self._state())

    def take_over(self, state: dict[str, Any]) -> None:
        """The weights, the architecture and the history of a run that is done."""
        self.supernet.load_state_dict(state["supernet"])
        self.history = state["history"]
        self.step = self.total_steps

    def _one_step(self) -> StepReport:
        path = self.supernet.sample(self._generator(_WEIGHT_PATHS))
        images, labels = self._weight_batches.at(self.step)
        loss = self.optimizer.step(self.step, self.supernet(images, path), labels)
        searched = self.step - self.settings.warmup_steps
        is_arch_step = searched >= 0 and (searched + 1) % self.settings.arch_every == 0
        arch = self._architecture_step() if is_arch_step and self.strategy else {}
        self.step += 1
        return StepReport(self.step, self.total_steps, loss, **arch)

    def _architecture_step(self) -> dict[str, Any]:
        assert self.strategy is not None
        if self.revise is not None:
            for name, costs in self.revise(self.supernet.probabilities.detach()).items():
                self.hardware.revise(name, costs)
        images, labels = self._arch_batches.at(self.step)
        seen = self.strategy.step(images, labels, self._generator(_ARCH_PATHS))
        entropy = torch.special.entr(self.supernet.probabilities.detach()).sum(-1).mean()
        return {
            "expected": seen.expected,
            "multipliers": seen.multipliers,
            "valid_loss": seen.task_loss,
            "entropy": float(entropy),
        }

    def _entry(self, report: StepReport) -> dict[str, Any]:
        """An architecture step as the history keeps it; now and then with the probabilities."""
        entry: dict[str, Any] = {
            "step": report.step,
            "train_loss": report.train_loss,
            "valid_loss": report.valid_loss,
            "entropy": report.entropy,
            "expected": dict(report.expected or {}),
            "multiplier": dict(report.multipliers or {}),
        }
        every = max(1, self.settings.search_steps // self.settings.arch_every // _SNAPSHOTS)
        if len(self.history) % every == 0 or self.step == self.total_steps:
            entry["probabilities"] = self.supernet.probabilities.detach().tolist()
        return entry

    def _stream(self, split: Split, size: int, stream: int, every: int = 1) -> BatchStream:
        seed = (self.seed, stream)
        workers = self.settings.workers
        return BatchStream(split, size, seed, self.space.resolution, workers, every)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, stream, self.step))

    def _state(self) -> dict:
        return {
            "step": self.step,
            "supernet": self.supernet.state_dict(),
            "optimizer": self.optimizer.sgd.state_dict(),
            "strategy": self.strategy.state if self.strategy else {},
            "history": self.history,
        }

    def _restore(self, state: dict) -> None:
        self.step, self.history = state["step"], state["history"]
        self.supernet.load_state_dict(state["supernet"])
        self.optimizer.sgd.load_state_dict(state["optimizer"])
        if self.strategy is not None:
            self.strategy.restore(state["strategy"])


class NetworkTraining:
    """Training of one network from scratch."""

    def __init__(
        self, network: NetworkSpec, data: Dataset, settings: SearchSettings, seed: int
    ) -> None:
        with seeded(seed):
            self.module = NetworkModule(network.ops).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.resolution = network.input_shape[0]
        self.data, self.settings, self.seed = data, settings, seed
        self.total_steps = settings.train_steps
        self._batches = BatchStream(
            data.train,
            settings.train_batch_size,
            (seed, _TRAIN_BATCHES),
            self.resolution,
            settings.workers,
        )
        self.optimizer = WeightOptimizer(
            self.module.parameters(), settings, settings.train_learning_rate, self.total_steps
        )
        self.step = 0

    def run(self, checkpoint: Checkpoint, on_step: OnStep) -> None:
        """Go on from the checkpoint, if there is one, to the last step."""
        if state := checkpoint.load():
            self.step = state["step"]
            self.module.load_state_dict(state["module"])
            self.optimizer.sgd.load_state_dict(state["optimizer"])
        while self.step < self.total_steps:
            images, labels = self._batches.at(self.step)
            loss = self.optimizer.step(self.step, self.module(images), labels)
            self.step += 1
            on_step(StepReport(self.step, self.total_steps, loss))
            if checkpoint.is_due() or self.step == self.total_steps:
                checkpoint.save(
                    {
                        "step": self.step,
                        "module": self.module.state_dict(),
                        "optimizer": self.optimizer.sgd.state_dict(),
                    }
                )
