"""Expected latency in DARTS (Liu, Simonyan, Yang, ICLR 2019): softmax over all candidates.

A block outputs the sum of its candidates' outputs, weighted by softmax(architecture). The weights
are trained on one half of scikit-learn's digits, the architecture parameters on the other half.
The loss includes a penalty for expected latency over the budget.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from latency import LatencyTable, NetworkSpec, OpSpec, candidate_latency
from latency.expected import ExpectedLatency
from latency.modules import NetworkModule, OperatorModule

TABLE = "amd-epyc-family-25-model-1-2-cpus-onnxruntime-1.32.0"  # or a path to your own CSV
STEM = """conv-32x32x3-16-k3-s2-relu6 mbconv-16x16x16-24-k3-s1-e3-relu6
    mbconv-16x16x24-40-k3-s2-e3-relu6"""
BLOCKS = [(8, 40, 80, 2), (4, 80, 80, 1), (4, 80, 80, 1)]
HEAD = "conv-4x4x80-256-k1-s1-relu6 pool-4x4x256-256-k4-s1 linear-1x1x256-10-k1-s1"
STEPS, BATCH, PENALTY_PER_MS = 20, 16, 100.0


def candidates(size: int, inputs: int, outputs: int, stride: int) -> list[OpSpec | None]:
    """Kernel 3, 5 x expansion 3, 6; None (skip) only if input and output have the same shape."""
    shape, pairs = (size, size, inputs, outputs), ((3, 3), (5, 3), (3, 6), (5, 6))
    ops = [OpSpec("mbconv", *shape, k, stride, e, activation="relu6") for k, e in pairs]
    return [*ops, None] if stride == 1 else [*ops]


def forward(net: nn.ModuleList, images: Tensor, probabilities: Tensor) -> Tensor:
    x = net[0](images)
    for block, row in zip(net[1:-1], probabilities, strict=True):
        x = sum(p * op(x) for p, op in zip(row, block, strict=False))
    return net[-1](x)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # such small layers are not faster with more threads
    pixels, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    images = interpolate(pixels.float().reshape(-1, 1, 8, 8) / 8 - 1, 32).repeat(1, 3, 1, 1)
    halves = torch.randperm(len(labels)).chunk(2)

    stem, head = (tuple(map(OpSpec.parse, keys.split())) for keys in (STEM, HEAD))
    blocks = [candidates(*shape) for shape in BLOCKS]
    table = LatencyTable.load(TABLE)
    costs = candidate_latency(table, blocks, fixed=stem + head)
    expected_ms = ExpectedLatency(costs, torch.float32)
    budget_ms = (costs.fastest_ms + costs.slowest_ms) / 2

    ops = [nn.ModuleList(OperatorModule(op) if op else nn.Identity() for op in b) for b in blocks]
    net = nn.ModuleList([NetworkModule(stem), *ops, NetworkModule(head)])
    start = np.where(np.isnan(costs.matrix), -np.inf, 0)  # NaN: padding, which gets probability 0
    architecture = nn.Parameter(torch.as_tensor(start).float())
    optimizers = torch.optim.Adam(net.parameters(), 3e-3), torch.optim.Adam([architecture], 0.1)
    for step in range(2 * STEPS):
        batch = halves[step % 2][torch.randperm(len(halves[step % 2]))[:BATCH]]
        probabilities = architecture.softmax(-1)
        loss = cross_entropy(forward(net, images[batch], probabilities), labels[batch])
        loss = loss + PENALTY_PER_MS * (expected_ms(probabilities) - budget_ms).relu()
        optimizers[step % 2].zero_grad()
        loss.backward()
        optimizers[step % 2].step()

    choices = np.indices(tuple(costs.counts)).reshape(len(blocks), -1).T  # all 100 networks
    utility = architecture.detach().numpy()[np.arange(len(blocks)), choices].sum(1)
    found = choices[np.where(costs.predict(choices) <= budget_ms, utility, -np.inf).argmax()]
    chosen = tuple(op for block, i in zip(blocks, found, strict=True) if (op := block[i]))
    network = NetworkSpec.of("darts", stem + chosen + head)
    print(*(op.key for op in network.ops), f"loss {loss.item():.3f}", sep="\n")
    print(f"expected {expected_ms(architecture.softmax(-1)).item():.4f} ms")
    print(f"predicted {table.predict(network).ms:.4f} ms of {budget_ms:.4f} ms")


if __name__ == "__main__":
    main()
