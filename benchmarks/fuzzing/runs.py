"""Folders that searches leave, for `lat-report`."""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.damage import damaged, put, relined, removed, revalued, reworded
from fuzzing.target import Target
from latency import LatencyTable, Measurement, Setting
from search import report, spaces

sys.path.append(str(Path(__file__).parents[2] / "tests" / "search_tests"))

from saved_runs import save_front, save_run


def result(folder: Path) -> Target:
    """A search's folder: mostly its result.json is damaged, else its network.json or its table,
    which it names as it lies in the folder one is in; the report of it, or of it beside a sound
    one."""
    sound = save_run(folder / "sound", _table("far-away.csv"))
    run = save_run(folder / "run", _table("run.csv"))
    files = {run / "result.json": 8, run / "network.json": 1, Path("run.csv"): 1}

    def read(generator: Random) -> None:
        chance = generator.random()
        if chance < 0.6:
            page = report.run_page(run)
        elif chance < 0.8:
            page = report.runs_page(sound, run)
        else:
            page = report.runs_page(run, sound)
        report.write_page(page, folder / "report.html")

    return _folder_of(files, read)


def front(folder: Path) -> Target:
    """The folder of a front: its pareto.json or a network of it."""
    sound, run = save_front(folder / "sound"), save_front(folder / "run")
    (run / "retrain.json").write_text("{}")

    def read(generator: Random) -> None:
        is_alone = generator.random() < 0.7
        page = report.run_page(run) if is_alone else report.runs_page(sound, run)
        report.write_page(page, folder / "report.html")

    return _folder_of({run / "pareto.json": 4, run / "n.json": 1}, read)


def _folder_of(files: dict[Path, int], read: Callable[[Random], object]) -> Target:
    """Files of which one is damaged; how often, in proportion."""
    contents = {path: path.read_bytes() for path in files}

    def restore() -> None:
        for path, content in contents.items():
            removed(path)
            path.write_bytes(content)

    def damage(generator: Random) -> None:
        restore()
        (path,) = generator.choices([*files], [*files.values()])
        changes = (revalued, revalued, reworded) if path.suffix == ".json" else (reworded, relined)
        put(path, damaged(contents[path], generator, changes), generator)

    return Target(restore, damage, read)


def _table(name: str) -> Path:
    """A table of `mini` of a device that is not at hand."""
    path, rows = Path(name), {}
    for op in spaces.load("mini").operators:
        ms = 0.002 + op.macs * 5e-8
        rows[op] = Measurement(ms, 0.005 * ms, 50, ms)
    setting = Setting("phone", "some phone", "", "someruntime 2", transport="adb")
    LatencyTable(setting, rows).save(path)
    return path
