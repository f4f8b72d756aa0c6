"""The benchmark of broken input: it reads what is sound, and sees what is at fault."""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from latency.errors import LatError

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from fuzzing import trying, worker
from fuzzing.kinds import KINDS
from fuzzing.target import Target


def _ends(read: Callable[[Random], object]) -> str:
    return worker.attempt(Target(lambda: None, lambda generator: None, read), 0).end


def _raising(error: Exception) -> Callable[[Random], object]:
    def read(generator: Random) -> None:
        raise error

    return read


@pytest.fixture
def one_thread():
    """As worker processes are started: threads that wait for each other take long on a busy CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_of_every_kind_are_read(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = worker.attempt(KINDS[kind](tmp_path), worker.SOUND)
    assert outcome.end == worker.ANSWERED, outcome.trace


def test_an_attempt_damages_in_the_same_way_each_time(tmp_path, monkeypatch):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        target = KINDS["network"](tmp_path / name)
        target.damage(Random(3))
        found.append((tmp_path / name / "network.json").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (LatError("x.csv:3: no number"), worker.REFUSED),
        (FileNotFoundError(2, "No such file", "x.csv"), worker.REFUSED),
        (LatError("x.csv:3: no \x1b[2J number"), worker.REFUSED),
        (LatError("two\nlines"), worker.REFUSED),
        (KeyError("ms"), worker.TRACEBACK),
        (OSError("what a library says"), worker.TRACEBACK),
        (MemoryError(), worker.MEMORY),
    ],
)
def test_only_one_line_in_words_is_no_fault(error, end):
    assert _ends(_raising(error)) == end


@pytest.mark.parametrize("text", ["two\nlines", "long" * 1000])
def test_an_error_that_a_command_does_not_print_as_one_line_is_a_fault(monkeypatch, text):
    monkeypatch.setattr(worker, "in_one_line", str)
    assert _ends(_raising(LatError(text))) == worker.UNCLEAR


def test_a_process_that_hangs_or_dies_is_seen_and_replaced(tmp_path, monkeypatch):
    script = tmp_path / "worker.py"
    script.write_text(
        "import faulthandler, json, os, sys, time\n"
        "for line in sys.stdin:\n"
        "    seed = int(line)\n"
        "    faulthandler.dump_traceback_later(2, exit=True)\n"
        "    time.sleep(60 if seed == 1 else 0)\n"
        "    seed == 2 and os._exit(3)\n"
        "    faulthandler.cancel_dump_traceback_later()\n"
        "    told = {'seed': seed, 'end': 'read', 'seconds': 0, 'mib': 1}\n"
        "    print(json.dumps(told), flush=True)\n"
    )
    monkeypatch.setattr(trying, "SCRIPT", script)
    ends = [outcome.end for outcome in trying.outcomes("network", range(4), tmp_path)]
    assert ends == [worker.ANSWERED, worker.HANG, worker.CRASH, worker.ANSWERED]
