"""A short search that is killed from outside and goes on."""

from multiprocessing.connection import Connection
from pathlib import Path

from shared_search import small_search

from search.training.checkpoint import Checkpoint


def search(folder: Path, steps: Connection) -> None:
    """Search with a checkpoint in a folder; the number of each step is sent when it is done."""
    training = small_search()
    checkpoint = Checkpoint(folder / "search.pt", {"seed": 0}, every_seconds=0)
    training.run(checkpoint, lambda report: steps.send(report.step))
