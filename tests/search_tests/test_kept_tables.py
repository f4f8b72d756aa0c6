"""Two that write into one table at once: no row is lost, whoever measures."""

from dataclasses import replace

import pytest

from devices.card import DeviceCard
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, OpSpec
from latency.locked_file import locked
from latency.tables.calibration import Calibration
from search import spaces
from search.commands.table_command import merge
from search.jobs.bench import Bench
from search.jobs.profiling import keep, measure_missing, profile_spaces, profile_suite
from search.jobs.targets import Target
from search.runs.measuring import AsYouGo

MINI = spaces.load("mini")
OWN = MINI.network(MINI.largest).ops[5]
THEIRS = OpSpec("conv", 14, 14, 32, 32, 5)
CARD = DeviceCard(name="x").model_copy(
    update={
        "measuring": DeviceCard(name="x").measuring.model_copy(
            update={"sessions": 1, "max_sessions": 1, "min_samples": 6, "max_samples": 6}
        )
    }
)


def row(ms):
    return Measurement(ms, 0.001 * ms, 9, ms)


def profile(whole, path, few):
    bench = Bench(CARD, (ReplayDevice(whole),), path)
    return lambda: profile_spaces(bench, [MINI], resume=False, quiet=True)


def few_rows(whole, path, few):
    return lambda: keep(replace(few, rows={OWN: row(2.0)}), path)


def suite(whole, path, few):
    bench = Bench(CARD, (ReplayDevice(whole),), path)
    return lambda: profile_suite(bench, resume=False, quiet=True)


def missing(whole, path, few):
    bench = Bench(CARD, (ReplayDevice(whole),), path)
    return lambda: measure_missing(bench, few, "mini@32", [OWN])


def merging(whole, path, few):
    mine = path.with_name("mine.csv")
    replace(few, rows={OWN: row(2.0)}).save(mine)
    return lambda: merge([str(path), str(mine)], path, True)


def as_you_go(whole, path, few):
    target = Target("x", few, Bench(CARD, (ReplayDevice(whole),), path))
    return lambda: AsYouGo(target, MINI, 0.0)


@pytest.mark.parametrize("writer", [profile, few_rows, suite, missing, merging, as_you_go])
def test_rows_that_another_process_writes_meanwhile_are_not_lost(
    tmp_path, mini_csv, monkeypatch, held_up, writer
):
    truth = LatencyTable.load(mini_csv)
    again = MINI.fixed[0]  # known when the others begin, and measured anew by another
    known = {op: row for op, row in truth.rows.items() if op != OWN}
    few = replace(truth, rows=known, calibrations={"mini@32": Calibration()})
    monkeypatch.setattr(
        "search.jobs.profiling.profile_kernels",
        lambda device, *_: LatencyTable(device.setting, {OWN: row(2.0)}),
    )
    path = tmp_path / "o" / "t.csv"
    few.save(path)
    work = writer(truth, path, few)
    with locked(path):
        there = LatencyTable.load(path)
        thread = held_up(work, path.with_name(".t.csv.lock"))
        journals = list(path.parent.glob("*.journal"))
        assert len(journals) == (writer in (profile, suite, missing))  # until the rows are in
        there.merge(LatencyTable(there.setting, {THEIRS: row(3.0), again: row(4.0)})).save(path)
    thread.join()
    kept = LatencyTable.load(path)
    assert set(kept) == {*truth, THEIRS}
    assert kept[THEIRS].median_ms == 3.0
    if writer is not profile:
        assert kept[again].median_ms == 4.0
    assert {one.suffix for one in path.parent.iterdir()} == {".csv"}
