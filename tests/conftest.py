"""What tests of all rooms share: a toy space, its table, and a folder of its own for user data."""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from devices.measuring.tracing import TraceTimes
from latency import LatencyTable, Measurement, OpSpec, Setting
from search.space import SearchSpace
from search.spaces.staged import StagedSpace


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    """No test reads or writes the tables of the person who runs it."""
    monkeypatch.setenv("LAT_DATA", str(tmp_path / "user-data"))


@pytest.fixture
def at_once(monkeypatch):
    """A device is measured without pauses, a deployed model once, and a trace takes a moment."""
    monkeypatch.setattr("search.confirmation._RETRIES", ((1, 0.0),))
    monkeypatch.setattr("search.confirmation._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("search.confirmation._ATTEMPTS", 2)
    monkeypatch.setattr("devices.measuring.tracing._TIMES", TraceTimes(20.0, 10.0, (8, 60), 5))


@pytest.fixture
def quick_cpu(tmp_path, at_once) -> str:
    """The name of a card for this machine's CPU that is content with few samples: a busy machine
    must not keep a test waiting for narrow intervals."""
    folder = tmp_path / "user-data" / "cards"
    folder.mkdir(parents=True, exist_ok=True)
    rules = "[measuring]\nsessions = 2\nmax_sessions = 2\nmin_samples = 6\nmax_samples = 8\n"
    (folder / "quick-cpu.toml").write_text("threads = 1\n" + rules)
    return "quick-cpu"


@pytest.fixture
def toy_space() -> SearchSpace:
    """Four searchable blocks on 16x16 inputs."""
    described = {
        "resolution": 16,
        "classes": 10,
        "stem": {"channels": 8, "blocks": [{"channels": 8}]},
        "stages": [
            {"channels": 8, "depth": [1, 2]},
            {"channels": 16, "depth": [1, 2], "stride": 2},
        ],
        "head": {"features": 32},
    }
    return StagedSpace.model_validate(described).build("toy")


def made_up_ms(op: OpSpec) -> float:
    """A latency for tests: a constant, plus something for every multiply-accumulate."""
    return 0.01 + op.macs * 1e-7


@pytest.fixture
def toy_table(toy_space) -> LatencyTable:
    """A table of the toy space, of a device that does not exist."""
    rows = {
        op: Measurement(made_up_ms(op), 0.005 * made_up_ms(op), 50, 0.9 * made_up_ms(op), "now")
        for op in toy_space.operators
    }
    setting = Setting("toy-device", "toy hardware", "toy system", "toyruntime 1.0")
    return LatencyTable(setting, rows)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def held_up():
    """Start something in a thread; it is given back once it waits for a lock file that the test
    has, or has ended without."""

    def start(function, lock):
        thread = threading.Thread(target=function, daemon=True)
        thread.start()
        deadline = time.monotonic() + 60
        while thread.is_alive() and _handles(lock) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return thread

    return start


def _handles(path) -> int:
    """How many times this process has a file open."""
    found = 0
    for handle in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(handle) == str(path)
    return found
