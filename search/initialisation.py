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
    """Draw one set of weights for layers of the same name; each candidate's are the part of it
    that it has, as large together as torch's own initialisation made them."""
    alike: dict[tuple[str, int], list[Tensor]] = {}
    for candidate in candidates:
        for name, value in candidate.named_parameters():
            if value.dim() > 1:
                alike.setdefault((name, value.dim()), []).append(value)
    for weights in alike.values():
        largest = [max(sizes) for sizes in zip(*(w.shape for w in weights), strict=True)]
        drawn = torch.empty(largest).uniform_(-1, 1)
        for weight in weights:
            part = _part(drawn, weight.shape)
            weight.copy_(part * (weight.norm() / part.norm()))


def _part(weight: Tensor, shape: torch.Size) -> Tensor:
    """The first channels out and in, the centre of the kernel."""
    for axis, size in enumerate(shape):
        first = (weight.shape[axis] - size) // 2 if axis > 1 else 0
        weight = weight.narrow(axis, first, size)
    return weight
