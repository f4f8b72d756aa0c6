"""`Ranks`: the processes that share a training, started by torchrun or `accelerate launch`.

All of them hold the same weights, sample the same paths (from the seed and the step alone), and
compute their part of every batch. What is a mean over the batch is then averaged over the ranks:
gradients of the weights that ran, gradients of the gates, losses, and, so that the number of
processes changes nothing, the moments of batch norm. Torch's own synchronised batch norm is for
GPUs only; `SyncedBatchNorm` is for every backend.
"""

import datetime
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

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

    def sync(self, module: nn.Module) -> None:
        """Have the module's batch norms go by the moments of the whole batch; names and state
        stay what they were."""
        if self.world > 1:
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d:
                    setattr(module, name, SyncedBatchNorm.of(child))
                else:
                    self.sync(child)


ALONE = Ranks()


def join() -> Ranks:
    """This process's place among those that torchrun or `accelerate launch` started together,
    which are named in its environment; alone where none are. NCCL carries what GPUs exchange,
    gloo what CPUs do."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ALONE
    if not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    return Ranks(distributed.get_rank(), world)


def leave() -> None:
    """End what `join` began, without waiting for the others."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the moments of the batches of all ranks, which are of equal size (Peng et
    al., MegDet, CVPR 2018, section 3.3). In evaluation mode it is `BatchNorm2d`."""

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "SyncedBatchNorm":
        """A batch norm with the parameters and the running moments of another."""
        synced = cls(norm.num_features, norm.eps, norm.momentum)
        synced.weight, synced.bias = norm.weight, norm.bias
        synced.running_mean, synced.running_var = norm.running_mean, norm.running_var
        synced.num_batches_tracked = norm.num_batches_tracked
        return synced

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        own_variance, own_mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        moments = torch.stack([own_mean.double(), own_variance.double() + own_mean.double() ** 2])
        mean, square = _Mean.apply(moments)
        variance = square - mean**2
        self._track(mean.detach(), variance.detach(), x.numel() // x.shape[1])
        scale = self.weight * (variance + self.eps).rsqrt().to(wide.dtype)
        shift = self.bias - mean.to(wide.dtype) * scale
        return torch.addcmul(_per_channel(shift), wide, _per_channel(scale)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, own_values: int) -> None:
        """Move the running moments, that of the variance without bias."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = own_values * distributed.get_world_size()
        unbiased = variance * values / max(1, values - 1)
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        self.num_batches_tracked += 1


class _Mean(torch.autograd.Function):
    """The mean over all ranks; so is its gradient, of the sum of all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total / distributed.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total / distributed.get_world_size()


def _per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None]
