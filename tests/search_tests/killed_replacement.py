"""A run that replaces another one and is killed at every step of it in turn: FOLDER. Prints what
each left, and what the next run to enter makes of that."""

import os
import sys
from pathlib import Path

from search.run_files import RUN_FILES
from search.runs.folder import run_folder

_STEPS = ("os.rename", "os.mkdir", "os.rmdir", "os.remove")


def fill(folder: Path, text: str) -> None:
    for name in ("checkpoint", "pareto"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x").write_text(text)
    for name in ("result.json", "network.json") if text == "old" else ("result.json", "model.onnx"):
        (folder / name).write_text(text)


def contents(folder: Path) -> str:
    """Who wrote what a run's files are: "old" or "new" where all are of that run."""
    files = [path for name in RUN_FILES for path in (folder / name, folder / name / "x")]
    found = {path.name: path.read_text() for path in files if path.is_file()}
    whole = {"old": {"x", "result.json", "network.json"}, "new": {"x", "result.json", "model.onnx"}}
    (who,) = {*found.values()} or {"nobody"}
    return who if found.keys() == whole.get(who) else f"part of {who}"


def replace(folder: Path, last: int) -> None:
    """Killed when it is about to take so many steps."""
    taken = 0

    def count(event: str, _: object) -> None:
        nonlocal taken
        if event in _STEPS:
            taken += 1
            if taken == last:
                os._exit(9)

    sys.addaudithook(count)
    with run_folder(folder, resume=False, overwrite=True) as place:
        fill(place, "new")
    os._exit(0)


def main() -> None:
    for number in range(1, 100):
        folder = Path(sys.argv[1]) / str(number)
        fill(folder, "old")
        if (child := os.fork()) == 0:
            replace(folder, number)
        _, status = os.waitpid(child, 0)
        with run_folder(folder, resume=True, overwrite=False) as place:
            print(contents(folder), contents(place), place == folder)
        print("  then", contents(folder), flush=True)
        if status == 0:
            return


if __name__ == "__main__":
    main()
