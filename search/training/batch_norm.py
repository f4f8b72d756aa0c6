"""Batch norms for distributed training.

`SyncedBatchNorm` uses the statistics of the whole batch, of all ranks; `GroupedBatchNorm` those of
small groups of images, without communication. With either, the result does not depend on the
number of ranks; names and state are those of `BatchNorm2d`. `torch.nn.SyncBatchNorm` needs GPUs.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from search.training.distributed import mean_over_ranks


def share_batch_norms(module: nn.Module, world: int, group: int) -> None:
    """Replace the batch norms of `module` by grouped ones of `group` images; for 0, by ones that
    are synchronised over `world` ranks."""
    for name, child in module.named_children():
        if type(child) is not nn.BatchNorm2d:
            share_batch_norms(child, world, group)
        elif group:
            setattr(module, name, GroupedBatchNorm(child, group))
        elif world > 1:
            setattr(module, name, SyncedBatchNorm(child))


class _InPlaceOf(nn.BatchNorm2d):
    """Shares the parameters and the running statistics of another batch norm."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked += 1


class GroupedBatchNorm(_InPlaceOf):
    """Batch norm with the statistics of groups of `group` images ("ghost batches": Hoffer, Hubara
    & Soudry, NeurIPS 2017, section 4); the running statistics average over the groups.

    A batch whose size is not a multiple of `group` is one group.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: int) -> None:
        super().__init__(norm)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        groups, rest = divmod(len(x), self.group)
        if not self.training or rest or groups < 2:
            return super().forward(x)
        assert self.running_mean is not None
        means = self.running_mean.new_zeros(groups, self.num_features)
        variances = torch.zeros_like(means)
        parts = [
            functional.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
            for part, mean, variance in zip(x.split(self.group), means, variances, strict=True)
        ]
        self._track(means.mean(0), variances.mean(0))
        return torch.cat(parts)


class SyncedBatchNorm(_InPlaceOf):
    """Batch norm with the statistics of all ranks' batches, which have equal sizes (Peng et al.,
    MegDet, CVPR 2018, section 3.3)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        own_variance, own_mean = torch.var_mean(wide, (0, 2, 3), correction=0)
        moments = torch.stack([own_mean.double(), own_variance.double() + own_mean.double() ** 2])
        mean, square = _Mean.apply(moments)
        variance = square - mean**2
        values = distributed.get_world_size() * (x.numel() // x.shape[1])
        self._track(mean.detach(), variance.detach() * values / max(1, values - 1))
        scale = self.weight * (variance + self.eps).rsqrt().to(wide.dtype)
        shift = self.bias - mean.to(wide.dtype) * scale
        return torch.addcmul(shift[:, None, None], wide, scale[:, None, None]).to(x.dtype)


class _Mean(torch.autograd.Function):
    """The mean over all ranks, differentiable."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return mean_over_ranks(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return mean_over_ranks(gradients[0])
