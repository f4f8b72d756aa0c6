"""Binary gates (Cai et al., ProxylessNAS, ICLR 2019, section 3.2): one path runs, and the
architecture parameters still get a gradient.

A block's output is the sum over candidates of gate_j * o_j(x), with gates that are one for the
sampled path and zero elsewhere. So only the sampled path is differentiated through, and the
gradient of a gate is the inner product of the output's gradient with what its candidate would
have put out. Those outputs are computed when the backward pass asks for them, one at a time and
without a graph, so that memory stays that of training the sampled path.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Candidate = Callable[[Tensor], Tensor]


class _Gate(torch.autograd.Function):
    """The active path's output, unchanged; gradients for the gates on the way back."""

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
    """Output of the candidate `active`, differentiable in `x`, its weights, and `gates`.

    `gates` (candidates,): its values are not read (they are one at `active`, zero elsewhere);
    its gradient is the inner product of the output's gradient with each candidate's output.
    """
    return _Gate.apply(candidates[active](x), gates, x.detach(), candidates, active)


def gate_to_alpha_gradient(gate_gradient: Tensor, probabilities: Tensor) -> Tensor:
    """From the gradient of the gates to that of the architecture parameters (equation 4):

        dL/dalpha_i = sum over j of dL/dg_j * p_j * (delta_ij - p_i)

    Both arguments and the result have shape (..., candidates).
    """
    mean = (gate_gradient * probabilities).sum(-1, keepdim=True)
    return probabilities * (gate_gradient - mean)
