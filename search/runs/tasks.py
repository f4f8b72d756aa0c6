"""A training shared by several processes: the first sends tasks, the others carry them out.

Started by torchrun or `accelerate launch`, every process runs the same command; all but the first
wait for its tasks, so that it alone measures, prints and writes files.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from latency.errors import LatError
from search.settings import SearchSettings

if TYPE_CHECKING:
    from search.data import Dataset
    from search.training.compute import Compute
    from search.training.network_training import Training

T = TypeVar("T", bound="Training")


@dataclass(frozen=True)
class Task(Generic[T]):
    """To make a training of this `kind`, with these arguments besides data and compute."""

    kind: Callable[..., T]
    settings: SearchSettings
    arguments: Mapping[str, Any]

    def training(self, data: "Dataset", compute: "Compute") -> T:
        """The training of this process."""
        return self.kind(data=data, compute=compute, settings=self.settings, **self.arguments)

    def shared(self, data: "Dataset", compute: "Compute") -> T:
        """Send the task to all processes; returns the training of this one, to be run."""
        return compute.ranks.from_first(lambda: self).training(data, compute)


def distributed_main(command: Callable[..., None]) -> Callable[..., None]:
    """The command as the first of several processes runs it, and as the others assist it. These
    train with the command's options `data` and `train_on`."""

    @wraps(command)
    def main(**options: object) -> None:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            command(**options)
            return
        from search.training.distributed import join, leave

        ranks = join()
        if ranks.is_first:
            command(**options)
            ranks.from_first(lambda: None)  # no more tasks
        else:
            assist(str(options["data"]), str(options["train_on"]))
        leave()

    return main


def assist(data: str, train_on: str) -> None:
    """Carry out the tasks of the first process until there are no more."""
    from search.data import load_dataset
    from search.training.checkpoint import Checkpoint
    from search.training.compute import Compute
    from search.training.distributed import is_of_the_group, join

    ranks, dataset = join(), load_dataset(data)
    unused = Checkpoint(Path(os.devnull), {})  # the first process alone reads and writes it
    try:
        while (task := ranks.from_first(_no_task)) is not None:
            compute = Compute.on(train_on, task.settings, ranks)
            task.training(dataset, compute).run(unused, lambda report: None)
    except RuntimeError as error:
        if not is_of_the_group(error):
            raise
        first_line = str(error).splitlines()[0]
        raise LatError(f"process {ranks.rank} lost the others: {first_line}") from None


def _no_task() -> "Task[Training] | None":
    return None
