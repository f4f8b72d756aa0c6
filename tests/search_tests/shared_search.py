"""A short search, as one process alone or of several runs it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from latency.errors import LatError
from search import spaces
from search.budget import Budget, size_costs
from search.data import load_dataset
from search.runs.tasks import assist
from search.searcher import SupernetTraining
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.compute import Compute
from search.training.distributed import ALONE, Ranks, join, leave

SETTINGS = SearchSettings(
    warmup_steps=2,
    search_steps=6,
    arch_every=1,
    batch_size=16,
    arch_batch_size=16,
    arch_learning_rate=0.02,
    reinforce_networks=3,
)


def small_search(ranks: Ranks = ALONE, **words: Any) -> SupernetTraining:
    """The search of a small space under a budget of half its multiply-accumulates; `words` are
    settings."""
    space = spaces.load("mini", resolution=16, width=0.5)
    costs = size_costs(space, "macs")
    budget = Budget("macs", (costs.fastest_ms + costs.slowest_ms) / 2, costs)
    settings = replace(SETTINGS, **words)
    compute = Compute.on("cpu", settings, ranks)
    return SupernetTraining(
        space, load_dataset("digits"), [budget], settings, seed=0, compute=compute
    )


def exact_search(ranks: Ranks = ALONE, **words: Any) -> SupernetTraining:
    """The same in double precision, in which the order of sums hardly matters: in single, a
    rounding at the edge of a ReLU shows in architecture parameters after a few steps."""
    torch.set_default_dtype(torch.float64)
    try:
        training = small_search(ranks, search_steps=3, **words)
    finally:
        torch.set_default_dtype(torch.float32)
    training.supernet.stem.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))
    return training


def share(folder: Path, strategy: str, norm_batch: int) -> None:
    """Run the search as one process of several, and keep what it trained in `RANK.pt`."""
    ranks = join()
    training = exact_search(ranks, strategy=strategy, norm_batch_size=norm_batch)
    training.run(Checkpoint(folder / f"checkpoint-{ranks.rank}.pt", {}), lambda report: None)
    torch.save(training.supernet.state_dict(), folder / f"{ranks.rank}.pt")
    leave()


def lose(folder: Path) -> None:
    """As the first process, die while the others wait; as another, keep what is said of that."""
    ranks = join()
    ranks.mean(torch.zeros(1))
    if ranks.is_first:
        os._exit(0)
    try:
        assist("digits", "cpu")
    except LatError as error:
        (folder / "said.txt").write_text(str(error))
