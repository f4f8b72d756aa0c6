"""Several devices of one card share the operators of one table."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest
from doubles import Memory, ShakyDevice

from devices.card import Measuring
from devices.device import Condition, Workload
from devices.fleet import ANCHORS, choose_anchors, measure_on_all, within_reach
from devices.replay import ReplayDevice
from latency.errors import ConnectionLostError, DeviceError

QUICK = Measuring(sessions=1, max_sessions=2, min_samples=6, max_samples=12)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("devices.measuring.sessions.RetryingSession.start_waits", ())


@pytest.fixture
def workloads(toy_table):
    return [Workload.of_op(op) for op in toy_table]


class UnpluggedDevice(ShakyDevice):
    """Gone for good once it runs anything but the anchors."""

    def __init__(self, table, anchors):
        super().__init__(table, seed=1)
        self.anchors, self.is_unplugged = anchors, Event()

    def _is_gone(self):
        if not set(self.loaded) <= self.anchors:
            self.is_unplugged.set()
        return self.is_unplugged.is_set()


def _wait_before_session(device, event):
    open_session = device.open_session

    def open_when_set():
        assert event.wait(20)
        return open_session()

    device.open_session = open_when_set


def _fleet(table, count, **options):
    return [ShakyDevice(table, seed=seed, **options) for seed in range(count)]


def test_each_operator_is_measured_by_one_device_and_the_anchors_by_all(toy_table, workloads):
    devices = _fleet(toy_table, 4)
    measured = measure_on_all(devices, workloads, QUICK)
    assert set(measured.rows) == {workload.name for workload in workloads}
    counts = Counter(name for device in devices for name in set(device.loaded))
    anchors = {anchor.name for anchor in choose_anchors(workloads)}
    assert len(anchors) == ANCHORS
    assert {name for name, count in counts.items() if count == 4} == anchors
    assert all(counts[w.name] == 1 for w in workloads if w.name not in anchors)
    assert "4 devices agree on 2 anchors" in measured.circumstances["fleet"]
    for workload in workloads:
        truth = toy_table[workload.ops[0]].median_ms
        assert measured[workload.name].median_ms == pytest.approx(truth, rel=0.03)


def test_a_device_that_fails_hands_its_work_back(toy_table, workloads):
    devices = _fleet(toy_table, 3)
    anchors = {anchor.name for anchor in choose_anchors(workloads)}
    devices[1] = failing = UnpluggedDevice(toy_table, anchors)
    for device in (devices[0], devices[2]):  # not before the failing one has taken its share
        _wait_before_session(device, failing.is_unplugged)
    measured = measure_on_all(devices, workloads, QUICK)
    handed_back = set(failing.loaded) - anchors
    assert handed_back
    assert handed_back <= set(devices[0].loaded) | set(devices[2].loaded)
    assert set(measured.rows) == {workload.name for workload in workloads}
    assert measured.failures == {}
    assert "replay-1 failed (unplugged)" in measured.circumstances["fleet"]


def test_where_all_devices_fail_the_run_ends_with_the_reason(toy_table, workloads):
    with pytest.raises(ConnectionLostError, match="unplugged"):
        measure_on_all(_fleet(toy_table, 3, gone_after=30), workloads, QUICK)


def test_a_device_that_disagrees_on_the_anchors_is_named(toy_table, workloads):
    devices = _fleet(toy_table, 3)
    devices[2] = ShakyDevice(toy_table, seed=2, slower=1.2)
    said = measure_on_all(devices, workloads, QUICK).circumstances["fleet"]
    assert "DISAGREE" in said
    assert "replay-2 +20" in said.replace("+19.9", "+20").replace("+20.1", "+20")


def test_devices_of_two_settings_share_no_table(toy_table, workloads):
    other = replace(toy_table, setting=replace(toy_table.setting, runtime="toyruntime 2.0"))
    with pytest.raises(DeviceError, match="only devices of one setting share a table"):
        measure_on_all([*_fleet(toy_table, 1), ShakyDevice(other)], workloads, QUICK)


def test_what_a_device_had_measured_is_not_measured_again_by_another(toy_table, workloads):
    journals = [Memory(), Memory()]
    measure_on_all(_fleet(toy_table, 2), workloads, QUICK, journals)
    before = [len(journal.samples) for journal in journals]
    again = _fleet(toy_table, 2)
    measured = measure_on_all(again, workloads, QUICK, journals)
    assert [len(journal.samples) for journal in journals] == before
    assert set(measured.rows) == {workload.name for workload in workloads}
    assert [device.runs for device in again] == [0, 0]


@pytest.mark.parametrize("left", [1, 2])
def test_what_an_absent_device_had_measured_is_not_measured_again(toy_table, workloads, left):
    absent = Memory()
    measure_on_all(_fleet(toy_table, 1), workloads[::2], QUICK, [absent])
    anchors = {anchor.name for anchor in choose_anchors(workloads)} if left > 1 else set()
    devices = _fleet(toy_table, left)
    measured = measure_on_all(devices, workloads, QUICK, absent=[absent])
    assert set(measured.rows) == {workload.name for workload in workloads}
    loaded = {name for device in devices for name in device.loaded}
    assert loaded == {workload.name for workload in workloads[1::2]} | anchors
    assert "by devices that are absent now" in measured.circumstances["taken over"]


def test_where_absent_devices_had_measured_everything_nothing_is_left(toy_table, workloads):
    journal = Memory()
    measure_on_all(_fleet(toy_table, 1), workloads, QUICK, [journal])
    (device,) = _fleet(toy_table, 1)
    measured = measure_on_all([device], workloads, QUICK, absent=[journal])
    assert set(measured.rows) == {workload.name for workload in workloads}
    assert device.runs == 0


class Unreachable(ReplayDevice):
    @property
    def setting(self):
        raise ConnectionLostError(f"no way to {self.label}")


def test_devices_out_of_reach_are_told_apart_unless_all_of_them_are(toy_table):
    there, gone = ReplayDevice(toy_table, 0), Unreachable(toy_table, 1)
    found, lost = within_reach([gone, there])
    assert found == (there,)
    assert {label: str(error) for label, error in lost.items()} == {
        "replay-1": "no way to replay-1"
    }
    with pytest.raises(ConnectionLostError, match="no way to replay-1"):
        within_reach([gone, gone])


class WaitingMemory(Memory):
    """A journal that waits in the second round, until `wait` returns."""

    def __init__(self, wait):
        super().__init__()
        self.wait = wait

    def append(self, sample):
        super().append(sample)
        if sample.round > 0:
            self.wait()

    @property
    def rounds(self):
        return max(sample.round + 1 for sample in self.samples)


@pytest.fixture
def is_ending(monkeypatch):
    """Set once the workers are waited for until they end."""
    ending = Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *args, **options):
            ending.set()
            super().shutdown(*args, **options)

    monkeypatch.setattr("devices.fleet.ThreadPoolExecutor", Pool)
    return ending


@pytest.fixture
def is_dealt_with(monkeypatch, is_ending):
    """Ctrl-C comes while the workers are waited for; this is set once they are waited for again."""

    def interrupted(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr("devices.fleet.as_completed", interrupted)
    return is_ending


def test_ctrl_c_ends_all_workers(toy_table, workloads, is_dealt_with):
    journals = [WaitingMemory(lambda: is_dealt_with.wait(20)) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        measure_on_all(_fleet(toy_table, 2), workloads, QUICK, journals)
    assert max(journal.rounds for journal in journals) <= 2


@pytest.mark.usefixtures("is_dealt_with")
def test_ctrl_c_ends_workers_that_wait_for_their_device_to_cool(toy_table, workloads):
    rule = QUICK.model_copy(update={"cool_below_c": 40.0, "cool_seconds": 3600.0})
    hot = _fleet(toy_table, 2)
    for device in hot:
        open_session = device.open_session

        def open_hot(open_session=open_session):
            session = open_session()
            session.condition = lambda: Condition(90.0)
            return session

        device.open_session = open_hot
    with pytest.raises(KeyboardInterrupt):
        measure_on_all(hot, workloads, rule)
    assert [device.runs for device in hot] == [0, 0]


def test_what_one_worker_cannot_deal_with_ends_the_others_and_is_raised(
    toy_table, workloads, is_ending
):
    failed = Event()

    def fails(progress):
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError

    journals = [WaitingMemory(lambda: is_ending.wait(20)) for _ in range(2)]
    with pytest.raises(ZeroDivisionError):
        measure_on_all(_fleet(toy_table, 2), workloads, QUICK, journals, on_progress=fails)
    assert max(journal.rounds for journal in journals if journal.samples) <= 2
