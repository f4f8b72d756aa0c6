"""Evolutionary search as in Once-for-all (Cai et al., ICLR 2020), a million networks in seconds.

Parents are mutated and crossed over; children over the latency budget are discarded. Once-for-all
ranks networks with an accuracy predictor. This example uses a proxy that is NOT accuracy: the sum
of the logarithms of the blocks' multiply-accumulates. Put your own predictor into `fitness`.
"""

import time

import numpy as np
from numpy.typing import NDArray

from latency import LatencyTable, NetworkSpec, OpSpec, candidate_latency

TABLE = "amd-epyc-family-25-model-1-2-cpus-onnxruntime-1.32.0"  # or a path to your own CSV
STEM = "conv-224x224x3-32-k3-s2-relu6 mbconv-112x112x32-16-k3-s1-relu6"
STAGES = [(24, 4, 2), (40, 4, 2), (80, 4, 2), (96, 4, 1), (192, 4, 2), (320, 1, 1)]
HEAD = "conv-7x7x320-1280-k1-s1-relu6 pool-7x7x1280-1280-k7-s1 linear-1x1x1280-1000-k1-s1"
GENERATIONS, POPULATION, PARENTS, MUTATION = 50, 20_000, 2_000, 0.1

Choices = NDArray[np.int64]


def proxyless_blocks() -> list[list[OpSpec | None]]:
    """The space of ProxylessNAS: kernel 3, 5, 7 x expansion 3, 6, and None (skip)."""
    blocks: list[list[OpSpec | None]] = []
    size, inputs = 112, 16
    for outputs, count, first_stride in STAGES:
        for stride in [first_stride, *[1] * (count - 1)]:
            shape = (size, size, inputs, outputs)
            kinds = [(kernel, stride, expansion) for expansion in (3, 6) for kernel in (3, 5, 7)]
            ops = [OpSpec("mbconv", *shape, *kind, activation="relu6") for kind in kinds]
            blocks.append([*ops, None] if (stride, inputs) == (1, outputs) else [*ops])
            size, inputs = size // stride, outputs
    return blocks


def children(parents: Choices, counts: Choices, rng: np.random.Generator) -> Choices:
    """Mutations of one parent and crossovers of two, in equal parts; (POPULATION, blocks)."""
    mothers, fathers = parents[rng.integers(len(parents), size=(2, POPULATION))]
    mutants = rng.integers(counts, size=mothers.shape)
    mutates = rng.random(mothers.shape) < MUTATION
    crosses = rng.random(mothers.shape) < 0.5
    mutates[::2] = crosses[1::2] = False
    return np.where(mutates, mutants, np.where(crosses, fathers, mothers))


def main() -> None:
    rng = np.random.default_rng(0)
    table, blocks = LatencyTable.load(TABLE), proxyless_blocks()
    stem, head = (tuple(map(OpSpec.parse, keys.split())) for keys in (STEM, HEAD))
    costs = candidate_latency(table, blocks, fixed=stem + head)
    budget_ms = (costs.fastest_ms + costs.slowest_ms) / 2
    log_macs = np.full(costs.matrix.shape, np.nan)
    for row, block in zip(log_macs, blocks, strict=True):
        row[: len(block)] = [np.log(op.macs) if op else 0 for op in block]

    def fitness(choices: Choices) -> NDArray[np.float64]:
        proxy = log_macs[np.arange(len(blocks)), choices].sum(1)
        return np.where(costs.predict(choices) <= budget_ms, proxy, -np.inf)

    start, scored = time.perf_counter(), 0
    population, best = rng.integers(costs.counts, size=(POPULATION, len(blocks))), []
    for _ in range(GENERATIONS):
        scores, scored = fitness(population), scored + POPULATION
        order = np.argsort(-scores)
        parents, best = population[order[:PARENTS]], [*best, scores[order[0]]]
        population = np.concatenate([parents, children(parents, costs.counts, rng)])
    seconds = time.perf_counter() - start

    chosen = tuple(op for block, i in zip(blocks, parents[0], strict=True) if (op := block[i]))
    network = NetworkSpec.of("evolved", stem + chosen + head)
    print(*(op.key for op in network.ops), sep="\n")
    print(f"{scored} candidates in {seconds:.1f} s, proxy {best[0]:.2f} at first, {best[-1]:.2f}")
    print(f"predicted {table.predict(network).ms:.4f} ms of {budget_ms:.4f} ms")


if __name__ == "__main__":
    main()
