"""Expected latency in FBNet (Wu et al., CVPR 2019): a Gumbel softmax, and a product loss.

A block outputs the sum of its candidates' outputs, weighted by a Gumbel softmax sample with falling
temperature. The loss is cross-entropy * ALPHA * log(latency in µs) ** BETA; BETA is 0.6 in the
paper, this short search needs more. Networks are sampled from the learned distribution.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gumbel_softmax, interpolate

from latency import LatencyTable, NetworkSpec, OpSpec, candidate_latency
from latency.expected import ExpectedLatency
from latency.modules import NetworkModule, OperatorModule

TABLE = "amd-epyc-family-25-model-1-2-cpus-onnxruntime-1.32.0"  # or a path to your own CSV
STEM = """conv-32x32x3-16-k3-s2-relu6 mbconv-16x16x16-24-k3-s1-e3-relu6
    mbconv-16x16x24-40-k3-s2-e3-relu6"""
BLOCKS = [(8, 40, 80, 2), (4, 80, 80, 1), (4, 80, 80, 1)]
HEAD = "conv-4x4x80-256-k1-s1-relu6 pool-4x4x256-256-k4-s1 linear-1x1x256-10-k1-s1"
STEPS, BATCH, ALPHA, BETA, SAMPLES = 20, 16, 0.2, 4.0, 1000


def candidates(size: int, inputs: int, outputs: int, stride: int) -> list[OpSpec | None]:
    """Kernel 3, 5 x expansion 3, 6; None (skip) only if input and output have the same shape."""
    shape, pairs = (size, size, inputs, outputs), ((3, 3), (5, 3), (3, 6), (5, 6))
    ops = [OpSpec("mbconv", *shape, k, stride, e, activation="relu6") for k, e in pairs]
    return [*ops, None] if stride == 1 else [*ops]


def forward(net: nn.ModuleList, images: Tensor, gates: Tensor) -> Tensor:
    x = net[0](images)
    for block, row in zip(net[1:-1], gates, strict=True):
        x = sum(gate * op(x) for gate, op in zip(row, block, strict=False))
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
    ops = [nn.ModuleList(OperatorModule(op) if op else nn.Identity() for op in b) for b in blocks]
    net = nn.ModuleList([NetworkModule(stem), *ops, NetworkModule(head)])
    theta = nn.Parameter(torch.as_tensor(np.where(np.isnan(costs.matrix), -np.inf, 0)).float())
    optimizers = torch.optim.Adam(net.parameters(), 3e-3), torch.optim.Adam([theta], 0.1)
    start_ms = expected_ms(theta.softmax(-1)).item()
    for step in range(2 * STEPS):
        batch = halves[step % 2][torch.randperm(len(halves[step % 2]))[:BATCH]]
        gates = gumbel_softmax(theta, tau=5 * 0.97**step)
        error = cross_entropy(forward(net, images[batch], gates), labels[batch])
        loss = error * ALPHA * torch.log(1e3 * expected_ms(gates)) ** BETA
        optimizers[step % 2].zero_grad()
        loss.backward()
        optimizers[step % 2].step()

    probabilities = theta.detach().softmax(-1)
    samples = torch.multinomial(probabilities, SAMPLES, replacement=True).T.numpy()
    ms, budget_ms = costs.predict(samples), (costs.fastest_ms + costs.slowest_ms) / 2
    likelihood = probabilities.numpy()[np.arange(len(blocks)), samples].prod(1)
    found = samples[np.where(ms <= budget_ms, likelihood, 0).argmax()]
    chosen = tuple(op for block, i in zip(blocks, found, strict=True) if (op := block[i]))
    network = NetworkSpec.of("fbnet", stem + chosen + head)
    print(*(op.key for op in network.ops), f"cross-entropy {error.item():.3f}", sep="\n")
    print(f"samples {ms.mean():.4f} ms, at the start {start_ms:.4f} ms")
    print(f"predicted {table.predict(network).ms:.4f} ms of {budget_ms:.4f} ms")


if __name__ == "__main__":
    main()
