"""What tests of the search and of its commands share."""

import sys
from pathlib import Path

import pytest

from devices.measuring.journal import Journal
from latency import LatencyTable, Measurement, Setting, candidate_latency
from search import spaces
from search.data import load_dataset

sys.path.append(
    str(Path(__file__).parents[2] / "benchmarks")
)  # what is measured there is tested here


@pytest.fixture
def invoke(monkeypatch, capsys, tmp_path):
    """Run a command in this process; its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(main, *words):
        monkeypatch.setattr(sys, "argv", [main.__module__, *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        done = capsys.readouterr()
        return stop.value.code, done.out, " ".join(done.err.split())

    return call


@pytest.fixture
def mini_csv(tmp_path):
    """A table of `mini` of a device that is not at hand."""
    rows = {}
    for op in spaces.load("mini").operators:
        ms = 0.002 + op.macs * 5e-8
        rows[op] = Measurement(ms, 0.005 * ms, 50, ms)
    path = tmp_path / "far-away.csv"
    LatencyTable(Setting("phone", "some phone", "", "someruntime 2", transport="adb"), rows).save(
        path
    )
    return path


@pytest.fixture(scope="session")
def digits():
    return load_dataset("digits")


@pytest.fixture
def costs(toy_table, toy_space):
    """What the toy table says of the toy space."""
    return candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)


@pytest.fixture
def appended(monkeypatch):
    """The samples that are written to journals, by name; `at` so many the run is killed."""
    append = Journal.append

    class Appended(list):
        at = None

    names = Appended()

    def counting(self, sample):
        if len(names) == names.at:
            raise KeyboardInterrupt
        names.append(sample.workload)
        append(self, sample)

    monkeypatch.setattr(Journal, "append", counting)
    return names
