"""A training shared by several processes: the first gives orders, the others carry them out.

Started by torchrun or `accelerate launch`, every process runs the same command; all but the first
wait for its orders, so that it alone measures, prints and writes files.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

from latency.errors import LatError
from latency.operators.network import NetworkSpec
from search.budget import Budget
from search.settings import SearchSettings
from search.space import SearchSpace

if TYPE_CHECKING:
    from search.data import Dataset
    from search.searcher import Revise, SupernetTraining
    from search.training.compute import Compute
    from search.training.network_training import NetworkTraining


@dataclass(frozen=True)
class SearchOrder:
    """To train a supernet; `revises`: whether costs become better known meanwhile."""

    space: SearchSpace
    budgets: Sequence[Budget]
    settings: SearchSettings
    seed: int
    revises: bool

    def training(self, data: "Dataset", compute: "Compute") -> "SupernetTraining":
        """The training of this process."""
        from search.searcher import SupernetTraining

        revise: Revise | None = (lambda probabilities: {}) if self.revises else None
        words = self.budgets, self.settings, self.seed, revise, compute
        return SupernetTraining(self.space, data, *words)


@dataclass(frozen=True)
class TrainOrder:
    """To train a network from scratch."""

    network: NetworkSpec
    settings: SearchSettings
    seed: int

    def training(self, data: "Dataset", compute: "Compute") -> "NetworkTraining":
        """The training of this process."""
        from search.training.network_training import NetworkTraining

        return NetworkTraining(self.network, data, self.settings, self.seed, compute)


def shared_search(order: SearchOrder, data: "Dataset", compute: "Compute") -> "SupernetTraining":
    """Give an order to all processes; this one's part of it, to be run."""
    return compute.ranks.from_first(lambda: order).training(data, compute)


def shared_training(order: TrainOrder, data: "Dataset", compute: "Compute") -> "NetworkTraining":
    """Give an order to all processes; this one's part of it, to be run."""
    return compute.ranks.from_first(lambda: order).training(data, compute)


def led(command: Callable[..., None]) -> Callable[..., None]:
    """The command as the first of several processes runs it, and as the others follow it. Its
    words `data` and `train_on` say what these train with."""

    @wraps(command)
    def one_of_several(**words: object) -> None:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            command(**words)
            return
        from search.training.distributed import join, leave

        ranks = join()
        if ranks.is_first:
            command(**words)
            ranks.from_first(lambda: None)  # dismisses the others
        else:
            follow(str(words["data"]), str(words["train_on"]))
        leave()

    return one_of_several


def follow(data: str, train_on: str) -> None:
    """Carry out the orders of the first process until it dismisses this one; `LatError` where it
    or another one is gone."""
    from search.data import load_dataset
    from search.training.checkpoint import Checkpoint
    from search.training.compute import Compute
    from search.training.distributed import is_of_the_group, join

    ranks, dataset = join(), load_dataset(data)
    unused = Checkpoint(Path(os.devnull), {})  # the first process alone reads and writes it
    try:
        while (order := ranks.from_first(_nothing)) is not None:
            compute = Compute.on(train_on, order.settings, ranks)
            order.training(dataset, compute).run(unused, lambda report: None)
    except RuntimeError as error:
        if not is_of_the_group(error):
            raise
        said = str(error).splitlines()[0]
        raise LatError(f"process {ranks.rank} lost the others: {said}") from None


def _nothing() -> SearchOrder | TrainOrder | None:
    return None
