"""A measurement survives what real devices do."""

import pytest
from doubles import Memory, ShakyDevice

from devices.card import Measuring
from devices.device import Condition, Workload
from devices.measuring.rounds import measure
from devices.measuring.sessions import RetryingSession
from devices.replay import ReplaySession
from latency.errors import ConnectionLostError, WorkloadError

QUICK = Measuring(sessions=3, min_samples=6, max_samples=12)


@pytest.fixture
def workloads(toy_table):
    return [Workload.of_op(op) for op in toy_table]


def test_samples_lost_with_their_process_are_made_again_by_the_next(toy_table, workloads):
    whole, kept = Memory(), Memory()
    measure(ShakyDevice(toy_table), workloads, QUICK, whole)
    waits = []
    device = ShakyDevice(toy_table, losses=[0, 40, 41, 150, 300])
    measured = measure(device, workloads, QUICK, kept, sleep=waits.append)
    assert measured.failures == {}
    assert device.sessions >= 3 + 4
    for workload in workloads:
        assert kept.count(workload.name) >= QUICK.min_samples
        truth = toy_table[workload.ops[0]].median_ms
        assert measured[workload.name].median_ms == pytest.approx(truth, rel=0.02)
    assert len({sample.session for sample in kept.samples}) >= 3 + 2


def test_a_workload_under_which_every_process_dies_is_named_and_the_rest_measured(
    toy_table, workloads
):
    bad = workloads[5]

    class Crashing(ShakyDevice):
        def open_session(self):
            session = super().open_session()
            load = session.load

            def loaded(workload):
                if workload == bad:
                    raise ConnectionLostError("signal 11")
                return load(workload)

            session.load = loaded
            return session

    measured = measure(Crashing(toy_table), workloads, QUICK, sleep=lambda seconds: None)
    assert set(measured.failures) == {bad.name}
    assert (
        "3 processes in a row were lost while running it: signal 11" in measured.failures[bad.name]
    )
    assert len(measured.rows) == len(workloads) - 1


def test_a_workload_that_is_refused_is_named_with_the_devices_own_words(toy_table, workloads):
    device = ShakyDevice(toy_table, refused=[workloads[0].name])
    measured = measure(device, workloads, QUICK)
    assert measured.failures == {workloads[0].name: "cannot load it"}
    assert device.loaded.count(workloads[0].name) == 1
    assert workloads[0].name not in measured.rows


def test_a_device_that_is_gone_for_good_ends_the_run_with_what_was_measured_kept(
    toy_table, workloads
):
    kept, waits = Memory(), []
    with pytest.raises(ConnectionLostError, match="unplugged"):
        measure(ShakyDevice(toy_table, gone_after=100), workloads, QUICK, kept, sleep=waits.append)
    assert kept.samples
    assert waits == sorted(waits)
    assert 30 < sum(waits) < 300
    again = ShakyDevice(toy_table)
    before = {workload.name: kept.count(workload.name) for workload in workloads}
    measure(again, workloads, QUICK, kept)
    for workload in workloads:
        assert kept.count(workload.name) >= max(QUICK.min_samples, before[workload.name])


def test_a_process_that_dies_while_it_starts_is_started_again(toy_table, workloads):
    class Late(ShakyDevice):
        tries = 0

        def open_session(self):
            self.tries += 1
            if self.tries % 3:
                raise ConnectionLostError("killed in its first words")
            return super().open_session()

    device = Late(toy_table)
    measured = measure(device, workloads, QUICK, sleep=lambda seconds: None)
    assert measured.failures == {}
    assert device.tries >= 9


def test_the_warm_up_is_as_long_as_the_device_takes_to_become_warm(toy_table, workloads):
    class Cold(ShakyDevice):
        """Takes twice as long for the first ten runs of a process."""

        def open_session(self):
            session = super().open_session()
            run, done = session.run, 0

            def ran(handle, warmup, runs):
                nonlocal done
                timing = run(handle, warmup, runs)
                factors = [2.0 if done + warmup + i < 10 else 1.0 for i in range(runs)]
                done += warmup + runs
                ms = tuple(ms * f for ms, f in zip(timing.ms, factors, strict=True))
                return type(timing)(ms, runs)

            session.run = ran
            return session

    with RetryingSession(Cold(toy_table)) as session:
        timing = session.sample(workloads[0], 1.0, None)
    truth = toy_table[workloads[0].ops[0]].median_ms
    assert max(timing.ms) < 1.1 * truth
    assert 3 <= session.warm_ups[0] <= 127


def test_a_process_that_is_not_resident_warms_itself(toy_table, workloads, monkeypatch):
    monkeypatch.setattr(ReplaySession, "is_resident", False)
    with RetryingSession(ShakyDevice(toy_table)) as session:
        session.sample(workloads[0], 1.0, None)
    assert session.warm_ups == []


def test_a_hot_device_is_left_to_cool_but_not_for_ever(toy_table, workloads):
    class Warm(ShakyDevice):
        celsius = 50.0

        def open_session(self):
            session = super().open_session()
            session.condition = lambda: Condition(self.celsius, 1800.0)
            return session

    device, now = Warm(toy_table), [0.0]

    def sleep(seconds):
        now[0] += seconds
        device.celsius = max(device.coolest, device.celsius - seconds)

    rule = QUICK.model_copy(update={"cool_below_c": 45.0, "cool_seconds": 20.0, "max_sessions": 3})
    device.coolest = 40.0
    measured = measure(device, workloads, rule, clock=lambda: now[0], sleep=sleep)
    assert device.celsius == 45.0
    assert measured[workloads[0].name].temperature_c == 45.0
    assert measured.circumstances["frequency"].startswith("1800 to 1800 MHz")
    device.coolest = device.celsius = 60.0
    measured = measure(device, workloads, rule, clock=lambda: now[0], sleep=sleep)


def test_a_workload_error_of_a_sample_is_not_retried(toy_table, workloads):
    device = ShakyDevice(toy_table, refused=[workloads[0].name])
    with RetryingSession(device) as session, pytest.raises(WorkloadError):
        session.sample(workloads[0], 1.0, None)
    assert device.sessions == 1
