"""Candidates of a block that start alike, so that they need not learn alone what all of them need.

A path is sampled at a time, so each of n candidates sees an n-th of the batches, and the blocks
after it see n unrelated features instead of one. Where candidates start from one set of weights,
as those of Once-for-all share one for good (Cai et al., ICLR 2020, section 3.2: the centre of the
largest kernel, the first of the most channels), they compute nearly the same and stay in tune.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def start_alike(candidates: Iterable[nn.Module]) -> None:
    """Draw one set of weights for layers of the same name, of the size that torch's own
    initialisation gives the largest of them; each candidate's are the part of it that it has."""
    alike: dict[tuple[str, int], list[Tensor]] = {}
    for candidate in candidates:
        for name, value in candidate.named_parameters():
            if value.dim() > 1:
                alike.setdefault((name, value.dim()), []).append(value)
    for weights in alike.values():
        largest = [max(sizes) for sizes in zip(*(w.shape for w in weights), strict=True)]
        drawn = torch.empty(largest).uniform_(-1, 1)
        most = max(weights, key=Tensor.numel)
        drawn *= most.norm() / _part(drawn, most.shape).norm()
        for weight in weights:
            weight.copy_(_part(drawn, weight.shape))


def _part(weight: Tensor, shape: torch.Size) -> Tensor:
    """The first channels out and in, the centre of the kernel."""
    for axis, size in enumerate(shape):
        first = (weight.shape[axis] - size) // 2 if axis > 1 else 0
        weight = weight.narrow(axis, first, size)
    return weight
