"""Two processes that share a search's batches against one that computes them alone."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import torch
from figure import Figure
from unread import train

from search import spaces
from search.budget import Budget, size_costs
from search.data import load_dataset
from search.searcher import SupernetTraining
from search.settings import SearchSettings
from search.training.compute import Compute
from search.training.distributed import join, leave

_BATCH, _WARM, _STEPS, _ROUNDS = 128, 2, 12, 3


def scaling() -> Iterator[Figure]:
    """Samples a second of a search of `mini` at one thread a process, global batches the same;
    one process and two in turn, the median of the rounds: with batch norm by groups of half a
    batch, and with that of the whole batch, of both processes."""
    for what, group, least in (("by halves", _BATCH // 2, 1.5), ("of the whole batch", 0, None)):
        rounds = [(_rate(1, group), _rate(2, group)) for _ in range(_ROUNDS)]
        one, two = (statistics.median(rates) for rates in zip(*rounds, strict=True))
        yield Figure(f"samples a second, 2 processes / 1, norm {what}", two / one, least=least)
        yield Figure("  one process", one, unit="/s")
        yield Figure("  two processes", two, unit="/s")


BENCHMARKS = {"scaling": scaling}


def _rate(world: int, group: int) -> float:
    """Samples a second of so many processes, with batch norm by groups of so many images."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, str(group)],
            env=os.environ | shared | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process of the search failed")
    return float(json.loads(said[0].splitlines()[-1]))


def main() -> None:
    """One process, which is told the images of a group: prints the samples a second of all."""
    torch.set_num_threads(1)
    ranks = join()
    compute = Compute(ranks=ranks, norm_batch_size=int(sys.argv[1]))
    space, data = spaces.load("mini"), load_dataset("digits")
    costs = size_costs(space, "macs")
    budget = Budget("macs", (costs.fastest_ms + costs.slowest_ms) / 2, costs)
    settings = SearchSettings(
        warmup_steps=0,
        search_steps=_WARM + _STEPS,
        batch_size=_BATCH,
        arch_batch_size=_BATCH,
        train_batch_size=_BATCH,
    )
    training = SupernetTraining(space, data, [budget], settings, seed=0, compute=compute)
    ends: list[float] = []
    train(training, lambda report: ends.append(time.perf_counter()))
    if ranks.is_first:
        samples = _BATCH * (_STEPS + _STEPS // settings.arch_every)
        print(json.dumps(samples / (ends[-1] - ends[_WARM - 1])))
    leave()


if __name__ == "__main__":
    main()
