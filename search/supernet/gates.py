"""Binary gates (Cai et al., ProxylessNAS, ICLR 2019, section 3.2): one path runs, and the
architecture parameters still get a gradient.

A block's output is the sum over candidates of gate_j * o_j(x), where the gate of the sampled path
is one and the others are zero. The gradient of a gate is the inner product of the output's gradient
with its candidate's output. The backward pass computes the other candidates' outputs one at a time
and without a graph, so it needs the memory of the sampled path only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Candidate = Callable[[Tensor], Tensor]


class _Gate(torch.autograd.Function):
    """The identity of the active path's output, with gradients for the gates."""

    @staticmethod
    def forward(
        ctx: Any,
        output: Tensor,
        gates: Tensor,
        x: Tensor,
        candidates: Sequence[Candidate],
        active: int,
    ) -> Tensor:
        ctx.save_for_backward(output, x)
        ctx.candidates, ctx.active = candidates, active
        kind = x.device.type
        ctx.precision = kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        output, x = ctx.saved_tensors
        products = []
        with torch.autocast(*ctx.precision):
            for position, candidate in enumerate(ctx.candidates):
                value = output if position == ctx.active else candidate(x)
                products.append(
                    (gradient * value).sum(dtype=torch.promote_types(value.dtype, torch.float32))
                )
        return gradient, torch.stack(products), None, None, None


def gated(x: Tensor, gates: Tensor, candidates: Sequence[Candidate], active: int) -> Tensor:
    """Output of the candidate `active`, differentiable in `x`, its weights, and `gates`
    (candidates,), whose values are taken to be one at `active` and zero elsewhere."""
    return _Gate.apply(candidates[active](x), gates, x.detach(), candidates, active)


def gate_to_alpha_gradient(gate_gradient: Tensor, probabilities: Tensor) -> Tensor:
    """The gradient of the architecture parameters, given that of the gates (equation 4):

        dL/dalpha_i = sum over j of dL/dg_j * p_j * (delta_ij - p_i)

    Both arguments and the result have shape (..., candidates).
    """
    mean = (gate_gradient * probabilities).sum(-1, keepdim=True)
    return probabilities * (gate_gradient - mean)
