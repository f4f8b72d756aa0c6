"""`ExpectedLatency`: the differentiable latency of a distribution over networks."""

import torch
from torch import Tensor, nn

from latency.candidates import CandidateLatency


class ExpectedLatency(nn.Module):
    """Expected latency of networks whose blocks choose a candidate independently.

        E[ms] = fixed_ms + sum over blocks b and candidates j of p[b, j] * ms[b, j]

    (Cai et al., ProxylessNAS, ICLR 2019, equation 2.) Linear in `p`, so the gradient with
    respect to a probability is that candidate's latency, exactly. A candidate's latency may
    come from any `LatencyModel`, through `latency.candidate_latency`.
    """

    matrix: Tensor

    def __init__(self, costs: CandidateLatency, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        matrix = torch.as_tensor(costs.matrix, dtype=dtype)
        self.register_buffer("matrix", matrix.nan_to_num(nan=0.0), persistent=False)
        self.fixed_ms = costs.fixed_ms

    def forward(self, probabilities: Tensor) -> Tensor:
        """Expected ms, shape (...), of path probabilities, shape (..., blocks, candidates).

        Blocks with fewer candidates than the widest are padded with any finite probability.
        """
        if probabilities.shape[-2:] != self.matrix.shape:
            raise ValueError(
                f"probabilities of shape {tuple(probabilities.shape)}; "
                f"expected (..., {self.matrix.shape[0]}, {self.matrix.shape[1]})"
            )
        return self.fixed_ms + (probabilities * self.matrix).sum((-2, -1))
