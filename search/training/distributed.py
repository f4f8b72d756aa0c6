"""`Ranks`: the processes that share a training, started by torchrun or `accelerate launch`.

All of them hold the same weights, sample the same paths (from the seed and the step alone), and
compute their part of every batch. What is a mean over the batch is then averaged over the ranks:
gradients of the weights that ran, gradients of the gates, losses, and, so that the number of
processes changes nothing, the moments of batch norm (`search.training.batch_norm`).
"""

import datetime
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from latency.errors import UsageError

T = TypeVar("T")

_PATIENCE = datetime.timedelta(days=2)
"""How long a rank waits for the others, of which the first may have a device to measure."""


@dataclass(frozen=True)
class Ranks:
    """The process `rank` of `world`; alone, where no others are named."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one process that measures, prints and writes files."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """Which part of every batch is this rank's, and of how many."""
        return self.rank, self.world

    def check(self, *batch_sizes: int) -> None:
        """Raises `UsageError` for batches that do not fall into equal parts."""
        for size in batch_sizes:
            if size % self.world:
                raise UsageError(
                    f"a batch of {size} images does not fall into {self.world} equal parts; give "
                    f"a --batch-size that {self.world} divides"
                )

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all ranks."""
        if self.world == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.world

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of those parameters that have one, which are the same on all
        ranks, in one message."""
        if self.world == 1:
            return
        gradients = [value.grad for value in parameters if value.grad is not None]
        mean = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, mean.split(sizes), strict=True):
            gradient.copy_(part.view_as(gradient))

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns on the first rank, on all of them."""
        if self.world == 1:
            return make()
        box = [make() if self.is_first else None]
        distributed.broadcast_object_list(box)
        return box[0]  # type: ignore[return-value]

    def average_buffers(self, module: nn.Module) -> None:
        """Average the module's running moments, in one message."""
        running = [value for value in module.buffers() if value.is_floating_point()]
        if self.world > 1 and running:
            mean = self.mean(torch.cat([value.flatten() for value in running]))
            for value, part in zip(running, mean.split([v.numel() for v in running]), strict=True):
                value.copy_(part.view_as(value))


ALONE = Ranks()
_GLOO = re.compile(r"\bgloo/\w")


def join() -> Ranks:
    """This process's place among those that torchrun or `accelerate launch` started together,
    which are named in its environment; alone where none are. NCCL carries what GPUs exchange,
    gloo what CPUs do."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if not distributed.is_initialized():
        local = _local_rank()
        if local < torch.cuda.device_count():  # more processes than GPUs train on the CPU
            torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    return Ranks(distributed.get_rank(), world)


def is_of_the_group(error: BaseException) -> bool:
    """Whether an error is of the exchange with the other processes: one of torch.distributed, or
    of its backend gloo, which raises a `RuntimeError` that names the file of its own code."""
    return isinstance(error, distributed.DistError) or (
        type(error) is RuntimeError and _GLOO.search(str(error)) is not None
    )


def require_gpus() -> None:
    """Raises `UsageError` where more processes were started on this machine than it has GPUs."""
    started = int(os.environ.get("LOCAL_WORLD_SIZE", _local_rank() + 1))
    if started > (gpus := torch.cuda.device_count()):
        raise UsageError(
            f"{started} processes train on {gpus} GPU{'s' if gpus > 1 else ''} of this machine; "
            f"start {gpus}, or give --train-on cpu"
        )


def _local_rank() -> int:
    """The number of this process among those on its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def leave() -> None:
    """End what `join` began, without waiting for the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
