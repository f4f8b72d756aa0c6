"""A short search that is killed from outside and goes on: FOLDER."""

import sys
from pathlib import Path

from shared_search import small_search

from search.checkpoint import Checkpoint


def main() -> None:
    folder = Path(sys.argv[1])
    training = small_search()
    checkpoint = Checkpoint(folder / "search.pt", {"seed": 0}, every_seconds=0)
    training.run(checkpoint, lambda report: print(report.step, flush=True))


if __name__ == "__main__":
    main()
