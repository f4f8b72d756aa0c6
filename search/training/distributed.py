"""`Ranks`: the processes of a distributed training, started by torchrun or `accelerate launch`.

All hold the same weights, sample the same paths (from the seed and the step), and compute their
part of every batch. Means over the batch are averaged over the ranks: gradients of weights and
gates, losses, and batch norm statistics (`search.training.batch_norm`). So the result does not
depend on the number of processes.
"""

import datetime
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from latency.errors import UsageError

T = TypeVar("T")

_TIMEOUT = datetime.timedelta(days=2)
"""How long a rank waits for the others; the first one also measures devices."""


@dataclass(frozen=True)
class Ranks:
    """Process number `rank` of `world`; by default the only one."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process measures, prints and writes files."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """This rank's part of every batch (`search.data.batches.Part`)."""
        return self.rank, self.world

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all ranks."""
        return value if self.world == 1 else mean_over_ranks(value.detach())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients over all ranks. The same parameters must have one on each."""
        self._average([value.grad for value in parameters if value.grad is not None])

    def average_buffers(self, module: nn.Module) -> None:
        """Average the module's running statistics over all ranks."""
        self._average([value for value in module.buffers() if value.is_floating_point()])

    def _average(self, values: Sequence[Tensor]) -> None:
        """Replace the values by their means over all ranks, in one message."""
        if self.world > 1 and values:
            mean = self.mean(torch.cat([value.flatten() for value in values]))
            parts = mean.split([value.numel() for value in values])
            for value, part in zip(values, parts, strict=True):
                value.copy_(part.view_as(value))

    def from_first(self, make: Callable[[], T]) -> T:
        """Call `make` on the first rank, and return its result on all of them."""
        if self.world == 1:
            return make()
        box = [make() if self.is_first else None]
        distributed.broadcast_object_list(box)
        return box[0]  # type: ignore[return-value]


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean over all ranks of the process group."""
    total = value.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


ALONE = Ranks()
_GLOO = re.compile(r"\bgloo/\w")


def join() -> Ranks:
    """Join the process group that the environment variables of torchrun or `accelerate launch`
    describe; `ALONE` without them. Uses NCCL for GPUs and gloo for CPUs."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if not distributed.is_initialized():
        local = _local_rank()
        if local < torch.cuda.device_count():  # more processes than GPUs train on the CPU
            torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    return Ranks(distributed.get_rank(), world)


def is_of_the_group(error: BaseException) -> bool:
    """Whether an error comes from torch.distributed, or from its backend gloo, which raises
    `RuntimeError` with the path of its source file."""
    return isinstance(error, distributed.DistError) or (
        type(error) is RuntimeError and _GLOO.search(str(error)) is not None
    )


def require_gpus() -> None:
    """Raises `UsageError` if this machine runs more processes than it has GPUs."""
    started = int(os.environ.get("LOCAL_WORLD_SIZE", _local_rank() + 1))
    if started > (gpus := torch.cuda.device_count()):
        raise UsageError(
            f"{started} processes train on {gpus} GPU{'s' if gpus > 1 else ''} of this machine; "
            f"start {gpus}, or use `train_on` cpu"
        )


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def leave() -> None:
    """Destroy the process group, without waiting for the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
