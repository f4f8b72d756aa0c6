"""`Training`: a series of steps with checkpoints, and `NetworkTraining`, of one network from
scratch. Each step depends only on the state, the seed and the step's number."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
"""Independent streams of random numbers."""


@dataclass(frozen=True)
class StepReport:
    """Step `step` of `total_steps`, its loss and learning rate. In an architecture step also the
    expected costs and the multipliers by budget name, the validation loss, and the mean entropy
    (nats) of the blocks' choices after it; in about 50 of these, the path probabilities (blocks,
    candidates)."""

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


class Training(ABC):
    """A training of `total_steps` steps. `streams`: the batches that it reads."""

    module: nn.Module
    compute: Compute
    total_steps: int
    streams: Sequence[BatchStream]
    step = 0

    def run(self, checkpoint: Checkpoint, on_step: OnStep) -> None:
        """Resume from the checkpoint, if there is one, and train to the last step. Only the first
        rank uses the checkpoint and calls `on_step`. Raises `LatError` for a step that fails
        (`search.training.failures`)."""
        ranks = self.compute.ranks
        if state := ranks.from_first(checkpoint.load):
            with checkpoint.restoring():
                step = state["step"]
                if not isinstance(step, int) or not 0 <= step <= self.total_steps:
                    raise ValueError(f"step {step} of {self.total_steps}")
                self._restore(state)
                self.step = step
        while self.step < self.total_steps:
            report = self._one_step()
            is_last = self.step == self.total_steps
            if is_last:
                ranks.average_buffers(self.module)
            if ranks.is_first:
                checkpoint.release()
                on_step(report)
                if is_last:
                    checkpoint.save(self._state())
                elif checkpoint.is_due():
                    checkpoint.hold(self._state())
        for stream in self.streams:
            stream.close()

    @abstractmethod
    def _one_step(self) -> StepReport:
        """Make a step, and increment `step`."""

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """The state for a checkpoint, with the `step`."""

    @abstractmethod
    def _restore(self, state: dict[str, Any]) -> None:
        """Restore all of a checkpoint's state but the `step`."""


class NetworkTraining(Training):
    """Training of one network from scratch."""

    module: NetworkModule

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
        self.streams = [self._batches]
        self.optimizer = WeightOptimizer(
            self.module.parameters(),
            settings,
            Cosines(((settings.train_learning_rate, self.total_steps),)),
            compute,
        )

    def _one_step(self) -> StepReport:
        batch = self._batches.at(self.step)
        with self._path_dropout():
            loss = self.optimizer.step(self.step, self.module, *batch)
        self.step += 1
        return StepReport(self.step, self.total_steps, loss, self.optimizer.rate)

    def _path_dropout(self) -> AbstractContextManager[None]:
        """Path dropout at this step's rate."""
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

    def _restore(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.restore(state["optimizer"])
