"""The journal: whose samples it holds, what is left of a broken one, and what is on the disk."""

import json
import os
from dataclasses import replace

import pytest

from devices.card import Measuring
from devices.device import Timing, Workload
from devices.measuring.journal import Journal
from devices.measuring.record import Sample
from devices.measuring.rounds import measure
from devices.replay import ReplayDevice
from latency.errors import LatError

ONCE = Measuring(sessions=1, max_sessions=1, min_samples=6, max_samples=6, max_network_samples=6)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "t.journal"


@pytest.fixture
def setting(toy_table):
    return toy_table.setting


@pytest.fixture
def networks(toy_space, generator):
    return [toy_space.network(row) for row in toy_space.random_choices(3, generator)]


def samples_of(*numbers):
    return [Sample(n, 0, f"w{n}", Timing((1.0 + n, 2.0), 2), digest=f"d{n}") for n in numbers]


def write(path, setting, samples):
    with Journal(path, setting, resume=False) as journal:
        for sample in samples:
            journal.append(sample)


def resumed(path, setting):
    """The samples that are gone on with, and what is said of the others."""
    with Journal(path, setting, resume=True) as journal:
        return journal.samples, journal.notes


def test_a_sample_is_read_as_it_was_written(path, setting):
    full = replace(samples_of(0)[0], timing=Timing((0.5,), 7, 1 << 40))
    write(path, setting, [full, *samples_of(1)])
    assert resumed(path, setting) == ([full, *samples_of(1)], [])


def test_what_ran_other_operators_or_another_file_is_another_workload(networks):
    first, second, third = (Workload("n", network.ops) for network in networks)
    file = replace(first, model=b"one")
    different = [first, second, third, file, replace(file, model=b"two")]
    assert len({workload.digest for workload in different}) == 5
    assert replace(first, name="m").digest == first.digest


def test_a_network_of_the_same_name_is_measured_anew(path, setting, toy_table, networks):
    before, now = (Workload("mini-1", network.ops) for network in networks[:2])
    truth = toy_table.predict(networks[1]).ms
    assert truth != pytest.approx(toy_table.predict(networks[0]).ms, rel=0.1)
    with Journal(path, setting, resume=False) as journal:
        measure(ReplayDevice(toy_table), [before], ONCE, journal)
    with Journal(path, setting, resume=True) as journal:
        measured = measure(ReplayDevice(toy_table), [now], ONCE, journal)
        assert measured["mini-1"].median_ms == pytest.approx(truth, rel=0.02)
        assert len(journal.samples) == 12


def test_a_network_of_another_name_is_gone_on_with(path, setting, toy_table, networks):
    before, now = Workload("mini-1", networks[0].ops), Workload("renamed", networks[0].ops)
    with Journal(path, setting, resume=False) as journal:
        known = measure(ReplayDevice(toy_table), [before], ONCE, journal)
    with Journal(path, setting, resume=True) as journal:
        measured = measure(ReplayDevice(toy_table), [now], ONCE, journal)
        assert len(journal.samples) == 6
    assert measured["renamed"].median_ms == known["mini-1"].median_ms


GOOD = (
    '{"round": 0, "session": 0, "workload": "w", "timing": {"ms": [1.0], "runs": 1}, '
    '"condition": {}, "digest": "d"}'
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\xff\xfe\x00", ": Invalid JSON"),
        (b"", ": Invalid JSON"),
        (b"\0" * 5000, ": Invalid JSON"),
        (b"[" * 100_000, ": Invalid JSON"),
        (b'{"round": 0}', "session: Field required"),
        (b"[1, 2]", ": Input should be"),
        (GOOD.replace("1.0", "1e-9").encode(), "timing.ms.0: "),
        (GOOD.replace("1.0", "1e12").encode(), "timing.ms.0: "),
        (GOOD.replace("1.0", "NaN").encode(), "timing.ms.0: "),
        (GOOD.replace("1.0", "-1").encode(), "timing.ms.0: "),
        (GOOD.replace("1.0", "9" * 400).encode(), "timing.ms.0: "),
        (GOOD.replace("1.0", "9" * 5000).encode(), ": Invalid JSON"),
        (GOOD.replace("1.0", "").encode(), "timing.ms: "),
        (GOOD.replace('"round": 0', '"round": 1' + "0" * 400).encode(), "round: "),
        (GOOD.replace('"round": 0', '"round": 1000000000').encode(), "round: "),
        (GOOD.replace('"session": 0', '"session": -1').encode(), "session: "),
        (GOOD.replace('"runs": 1', '"runs": 0').encode(), "timing.runs: "),
        (
            GOOD.replace("{}", '{"temperature_c": 1e300}').encode(),
            "condition.temperature_c: ",
        ),
    ],
    ids=range(18),
)
def test_a_broken_line_is_named_and_costs_no_other(path, setting, line, said):
    write(path, setting, samples_of(0, 1, 2))
    first, *lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, lines[0], line, lines[1], lines[2]]) + b"\n")
    samples, (note,) = resumed(path, setting)
    assert samples == samples_of(0, 1, 2)
    assert note.startswith(f"{path}:3: broken line: {said}")
    assert note.endswith("1 of 4 lines are left out")
    assert len(note) < len(str(path)) + 200
    assert note.isprintable()


@pytest.mark.parametrize("name", ["t.journal", "t.old"])
def test_what_a_link_leads_to_stays_as_it_is(path, setting, tmp_path, name):
    others = tmp_path / "diary.txt"
    others.write_text("dear diary\n" * 10)
    if name == "t.old":
        write(path, setting, samples_of(0))
    (tmp_path / name).symlink_to(others)
    for resume in (False, True):
        if name == "t.old":
            Journal(path, setting, resume).__exit__(None, None, None)
        else:
            with pytest.raises(LatError, match=f"{name} is a symbolic link"):
                Journal(path, setting, resume)
    assert others.read_text() == "dear diary\n" * 10


@pytest.fixture
def synced(monkeypatch):
    """What was brought to the disk: of each file by its name so many bytes, and folders."""
    calls, fsync = [], os.fsync

    def recording(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        calls.append(path if os.path.isdir(path) else (path, os.fstat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recording)
    return calls


def test_a_new_journal_is_on_the_disk_with_its_name_before_anything_is_measured(
    path, setting, synced
):
    with Journal(path, setting, resume=False):
        assert synced == [(str(path), path.stat().st_size), str(path.parent)]
        assert json.loads(path.read_text())["setting"]


def test_samples_are_on_the_disk_once_a_second_and_at_the_end(path, setting, synced):
    now = 0.0
    with Journal(path, setting, resume=False, clock=lambda: now) as journal:
        synced.clear()
        for sample in samples_of(*range(40)):
            journal.append(sample)
            now += 0.1
        during = [size for _, size in synced]
        assert 3 <= len(during) <= 4
        assert during == sorted(set(during))
        assert during[-1] > 0.7 * path.stat().st_size
    assert synced[-1] == (str(path), path.stat().st_size)
