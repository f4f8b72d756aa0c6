"""Training of one network from scratch, in steps that each depend on the state, the seed and the
step's number only."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from search.data import BatchStream, Dataset
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.compute import ON_CPU, Compute
from search.training.optimizer import Cosines, WeightOptimizer, seeded
from search.training.path_dropout import path_dropout, scheduled_rate

WEIGHT_BATCHES, WEIGHT_PATHS, ARCH_BATCHES, ARCH_PATHS, TRAIN_BATCHES = range(5)
_DROPPED_PATHS = 7
"""Streams of random numbers, independent of each other."""


@dataclass(frozen=True)
class StepReport:
    """What a step did: `step` of `total_steps`, its loss and learning rate; in an architecture
    step also the expected costs and the multipliers by the budgets' names, the validation loss and
    the mean entropy (nats) of the blocks' choices after it; in some of these, of which a search
    has about 50, the path probabilities (blocks, candidates), too."""

    step: int
    total_steps: int
    train_loss: float
    learning_rate: float
    expected: Mapping[str, float] | None = None
    multipliers: Mapping[str, float] | None = None
    valid_loss: float | None = None
    entropy: float | None = None
    probabilities: Tensor | None = None


OnStep = Callable[[StepReport], None]


class NetworkTraining:
    """Training of one network from scratch."""

    def __init__(
        self,
        network: NetworkSpec,
        data: Dataset,
        settings: SearchSettings,
        seed: int,
        compute: Compute = ON_CPU,
    ) -> None:
        compute.check(settings.train_batch_size)
        with seeded(seed):
            self.module = compute.place(NetworkModule(network.ops))
        self.compute = compute
        self.resolution = network.input_shape[0]
        self.data, self.settings, self.seed = data, settings, seed
        self.total_steps = settings.train_steps
        self._batches = BatchStream(
            data.train,
            settings.train_batch_size,
            (seed, TRAIN_BATCHES),
            self.resolution,
            settings.workers,
            part=compute.ranks.part,
        )
        self.optimizer = WeightOptimizer(
            self.module.parameters(),
            settings,
            Cosines(((settings.train_learning_rate, self.total_steps),)),
            compute,
        )
        self.step = 0

    def run(self, checkpoint: Checkpoint, on_step: OnStep) -> None:
        """Go on from the checkpoint, if there is one, to the last step, like a search."""
        ranks = self.compute.ranks
        if state := ranks.from_first(checkpoint.load):
            with checkpoint.restoring():
                self.step = step_of(state, self.total_steps)
                self.module.load_state_dict(state["module"])
                self.optimizer.restore(state["optimizer"])
        while self.step < self.total_steps:
            batch = self._batches.at(self.step)
            with self._path_dropout():
                loss = self.optimizer.step(self.step, self.module, *batch)
            self.step += 1
            if self.step == self.total_steps:
                ranks.average_buffers(self.module)
            if ranks.is_first:
                checkpoint.release()
                on_step(StepReport(self.step, self.total_steps, loss, self.optimizer.rate))
                keep_parameters(checkpoint, self._state, self.step == self.total_steps)
        self._batches.close()

    def _path_dropout(self) -> AbstractContextManager[None]:
        """Branches left out in this step, at a rate that grows from step to step."""
        generator = torch.Generator(self.compute.device)
        seed = np.random.SeedSequence((self.seed, _DROPPED_PATHS, self.step))
        generator.manual_seed(int(seed.generate_state(1)[0]))
        rate = scheduled_rate(self.settings.path_dropout, self.step, self.total_steps)
        return path_dropout(self.module, rate, generator, self.compute.ranks)

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state,
        }


def step_of(state: Mapping[str, Any], total_steps: int) -> int:
    """How many steps a state has made; `ValueError` where it cannot have made so many."""
    step = state["step"]
    if not isinstance(step, int) or not 0 <= step <= total_steps:
        raise ValueError(f"step {step} of {total_steps}")
    return step


def keep_parameters(
    checkpoint: Checkpoint, state: Callable[[], dict[str, Any]], is_last: bool
) -> None:
    """Keep the state where it is time to, good once the next step has been made from it."""
    if is_last:
        checkpoint.save(state())
    elif checkpoint.is_due():
        checkpoint.hold(state())
