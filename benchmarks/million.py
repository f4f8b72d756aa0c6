"""A million networks through a table, against a loop that looks up one block after the other."""

import time
from collections.abc import Callable, Iterator

import numpy as np
from figure import Figure

from latency import CandidateLatency, LatencyTable, OpSpec, candidate_latency
from latency.exchange.keys import key_of
from search import spaces
from search.space import SearchSpace

TABLE = "amd-epyc-family-25-model-1-2-cpus-onnxruntime-1.32.0"
NETWORKS = 1_000_000
SAMPLE = 2_000
ROUNDS = 9


def million() -> Iterator[Figure]:
    """`CandidateLatency.predict` and the loop, in turns; the loop runs over `SAMPLE` of the
    networks and its time is scaled up linearly."""
    space, table = spaces.load("proxyless"), LatencyTable.load(TABLE)
    costs = candidate_latency(table, space.blocks, fixed=space.fixed)
    choices = space.random_choices(NETWORKS, np.random.default_rng(0))
    loop = dictionary_loop(space, table, costs)
    sample = choices[:SAMPLE].tolist()
    np.testing.assert_allclose(loop(sample), costs.predict(choices[:SAMPLE]), rtol=1e-12)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_seconds(lambda: costs.predict(choices)))
        theirs.append(_seconds(lambda: loop(sample)) * NETWORKS / SAMPLE)
    yield Figure("a million networks of proxyless", float(np.median(ours)), most=1, unit="s")
    ratios = np.divide(theirs, ours)
    yield Figure("  times as fast as a loop over keys", float(np.median(ratios)), least=500)
    yield Figure("  the slowest round's", float(ratios.min()))
    yield Figure("  the loop, scaled from 2000 networks", float(np.median(theirs)), unit="s")


def dictionary_loop(
    space: SearchSpace, table: LatencyTable, costs: CandidateLatency
) -> Callable[[list[list[int]]], list[float]]:
    """Latency as Once-for-all adds it up: a key is written for each block that is not skipped,
    from its sizes, and looked up. Given ready-made are the sizes of each candidate and the sum
    of the operators around the blocks, which Once-for-all computes for each network."""
    blocks = [[op and _sizes(op) for op in block] for block in space.blocks]
    ops = [op for op in space.operators if op.kind == "mbconv"]
    rows = {key_of((op,), "proxylessnas"): {"mean": table.predict_op(op).ms} for op in ops}

    def latency_ms(network: list[int]) -> float:
        total = costs.fixed_ms
        for block, choice in zip(blocks, network, strict=True):
            sizes = block[choice]
            if sizes is not None:
                total += rows[_key(**sizes)]["mean"]
        return total

    return lambda networks: [latency_ms(network) for network in networks]


def _sizes(op: OpSpec) -> dict:
    return {
        "inputs": (op.height, op.width, op.in_channels),
        "outputs": op.out_shape,
        "expand": op.expansion,
        "kernel": op.kernel,
        "stride": op.stride,
        "skip": op.stride == 1 and op.in_channels == op.out_channels,
    }


def _key(inputs: tuple, outputs: tuple, expand: int, kernel: int, stride: int, skip: bool) -> str:
    parts = ["expanded_conv", f"input:{_shape(inputs)}", f"output:{_shape(outputs)}"]
    parts += [f"expand:{expand:d}", f"kernel:{kernel:d}", f"stride:{stride:d}", f"idskip:{skip:d}"]
    return "-".join(parts)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def _seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


BENCHMARKS = {"million": million}
