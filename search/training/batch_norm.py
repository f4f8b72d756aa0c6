"""Batch norms of a training whose batch is shared out: by whose moments they go.

`SyncedBatchNorm`: the whole batch, of all ranks. `GroupedBatchNorm`: groups of a few images, which
no rank has to ask another for. Either way the number of ranks changes nothing, and names and state
are those of `BatchNorm2d`. Torch's own synchronised batch norm is for GPUs only.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional


def share_batch_norms(module: nn.Module, world: int, group: int) -> None:
    """Have the batch norms of `module` go by the moments of groups of `group` images; for 0, by
    those of the whole batch, of all `world` ranks."""
    for name, child in module.named_children():
        if type(child) is not nn.BatchNorm2d:
            share_batch_norms(child, world, group)
        elif group:
            setattr(module, name, GroupedBatchNorm(child, group))
        elif world > 1:
            setattr(module, name, SyncedBatchNorm(child))


class _InPlaceOf(nn.BatchNorm2d):
    """A batch norm with the parameters and the running moments of another."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running moments."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked += 1


class GroupedBatchNorm(_InPlaceOf):
    """Batch norm by the moments of groups of `group` images ("ghost batches": Hoffer, Hubara &
    Soudry, NeurIPS 2017, section 4); the running moments are the groups' means.

    A batch that does not fall into groups is one. In evaluation mode it is `BatchNorm2d`.
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
    """Batch norm by the moments of the batches of all ranks, which are of equal size (Peng et
    al., MegDet, CVPR 2018, section 3.3). In evaluation mode it is `BatchNorm2d`."""

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
        return torch.addcmul(_per_channel(shift), wide, _per_channel(scale)).to(x.dtype)


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
