"""What the search promises: what was planted is found, memory does not grow with the candidates,
and a front of networks costs no second training."""

import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from command import answer
from figure import Figure
from memory import saved_bytes
from torch import nn
from unread import train

from search import spaces
from search.budget import Budget, size_costs
from search.data import load_dataset
from search.derivation.fitness import supernet_fitness
from search.searcher import SupernetTraining
from search.settings import MINI, SearchSettings
from search.space import SearchSpace
from search.supernet.supernet import SuperNet

sys.path.append(str(Path(__file__).parents[1] / "tests" / "search_tests"))

from planted import PlantedProblem

_SEEDS = 20
_SEARCH = SearchSettings(
    search_steps=400, arch_every=1, arch_learning_rate=0.04, reinforce_networks=10
)
_STRATEGIES = (("proxyless-g", 99.0), ("proxyless-r", 97.0))
_COUNTS = (2, 4, 8, 16)
_EXPANSIONS, _KERNELS = (6, 5, 4, 3), (7, 5, 3, 9)
_IMAGES = 16
_STEPS, _PATHS = 300, 30


def planted() -> Iterator[Figure]:
    """Share of the optimum's utility that a search of a problem with a known optimum reaches."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for strategy, bound in _STRATEGIES:
            runs = list(pool.map(partial(_reach, strategy), range(_SEEDS)))
            reached = [100 * share for share, _ in runs]
            label = f"planted, {strategy}, {_SEEDS} seeds: reach of the optimum"
            yield Figure(label, float(np.mean(reached)), least=bound, unit="%")
            yield Figure("  the worst seed", min(reached), unit="%")
            yield Figure("  seeds over the budget", sum(not held for _, held in runs), most=0)


def _reach(strategy: str, seed: int) -> tuple[float, bool]:
    """Share of the optimum reached, and whether the budget was held."""
    torch.set_num_threads(1)
    problem = PlantedProblem.random(seed)
    settings = SearchSettings(**{**_SEARCH.as_dict, "strategy": strategy})
    choices = problem.search(settings, seed)
    held = bool(problem.budget.costs.predict(choices)[0] <= problem.budget.limit)
    return problem.total(choices) / problem.optimum, held


def memory() -> Iterator[Figure]:
    """What steps of `mini` with more kernels and expansions save for backward, as a curve over the
    candidates a block; on the largest path, which all of them have."""
    saved = {count: _saved(_with_candidates(count)) for count in _COUNTS}
    for count, (weight, architecture) in saved.items():
        yield Figure(f"weight step, {count} candidates a block: saved", weight / 2**20, unit="MiB")
        yield Figure("  architecture step (two)", architecture / 2**20, unit="MiB")
    fewest, most = saved[_COUNTS[0]], saved[_COUNTS[-1]]
    yield Figure("weight step, 16 candidates / 2", most[0] / fewest[0], most=1.02)
    yield Figure("  architecture step", most[1] / fewest[1], most=1.02)


def _with_candidates(count: int) -> SearchSpace:
    """`mini` with the first `count` of 16 candidates in each block, the largest one first."""
    mini = spaces.load("mini")
    blocks = []
    for block, largest in zip(mini.blocks, mini.largest, strict=True):
        op = block[largest]
        assert op is not None
        kinds = list(product(_EXPANSIONS, _KERNELS))[:count]
        blocks.append(tuple(replace(op, kernel=k, expansion=float(e)) for e, k in kinds))
    return replace(mini, name=f"mini-{count}", blocks=tuple(blocks))


def _saved(space: SearchSpace) -> tuple[int, int]:
    """Bytes saved for backward by a weight step, and by an architecture step with two gates."""
    torch.manual_seed(0)
    net = SuperNet(space).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(_IMAGES, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    blocks = len(space.blocks)
    sampled = torch.tensor([[0, 1]] * blocks)
    gates = torch.zeros(sampled.shape, requires_grad=True)
    active = torch.zeros(blocks, dtype=torch.long)
    weight = saved_bytes(lambda: net(images, [0] * blocks), net)
    gated = saved_bytes(lambda: net.forward_gated(images, gates, sampled, active), net)
    return weight, gated


def front() -> Iterator[Figure]:
    """Eight networks from the supernet of a search of `mini` that is done."""
    words = ["--target", "cpu", "--space", "mini"]
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        answer("lat-search", *words, "--budget", "50%", "--baselines", "0", "--out", run)
        again = [*words, "--pareto", "8", "--from", run, "--out", f"{folder}/front"]
        found = answer("lat-search", *again)
    yield Figure("8-network front of mini, wall clock", found["wall_s"], most=60, unit="s")
    yield Figure("  its networks", len(found["networks"]), least=8)
    taken = [(row["measured_ms"] or row["predicted_ms"]) for row in found["networks"]]
    yield Figure("  slowest / fastest, as measured", max(taken) / min(taken))
    shares = [100 * row["valid_accuracy"] for row in found["networks"]]
    yield Figure("  validation accuracy, the best less the fastest", max(shares) - shares[0])


def alike() -> Iterator[Figure]:
    """How well the networks of a supernet of `mini` read digits after a few steps of paths drawn
    alike, one whose candidates started alike against one whose did not."""
    space, data = spaces.load("mini"), load_dataset("digits")
    budget = Budget("macs", 1e9, size_costs(space, "macs"))
    settings = replace(MINI, warmup_steps=_STEPS, search_steps=0)
    generator = np.random.default_rng(0)
    paths = [[int(generator.integers(count)) for count in space.counts] for _ in range(_PATHS)]
    for starts in ("alike", "each by itself"):
        training = SupernetTraining(space, data, [budget], settings, seed=0)
        if starts != "alike":
            torch.manual_seed(0)
            for module in training.supernet.blocks.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
        train(training)
        fitness = supernet_fitness(training.supernet, data.valid, space.resolution)
        shares = [100 * fitness(path)[0] for path in paths]
        label = f"{_PATHS} networks after {_STEPS} steps, candidates start {starts}"
        yield Figure(label, float(np.mean(shares)), unit="%")


BENCHMARKS = {"planted": planted, "memory": memory, "front": front, "alike": alike}
