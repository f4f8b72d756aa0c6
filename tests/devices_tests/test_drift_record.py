"""What a record of samples tells, what a warm-up takes, and when a measurement is late or warm."""

import numpy as np
import pytest
from doubles import Memory, ShakyDevice

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from devices.measuring.journal import Journal
from devices.measuring.record import LEAST_TOGETHER, Record, Sample, median_polish
from devices.measuring.rounds import measure
from devices.measuring.sessions import RetryingSession
from devices.replay import ReplayDevice
from latency import OpSpec

OP = OpSpec("conv", 8, 8, 3, 4)
ONE = Workload.of_op(OP)
NETWORK = Workload("two", (OP, OpSpec("conv", 8, 8, 4, 4)))


def record_of(workload, *milliseconds, conditions=()):
    """A record of one workload, a sample a round."""
    record = Record([workload], Measuring(min_samples=6))
    states = conditions or [Condition()] * len(milliseconds)
    for number, (ms, state) in enumerate(zip(milliseconds, states, strict=True)):
        record.add(Sample(number, 0, workload.name, Timing((ms,), 1), state, workload.digest))
    record.end_round()
    return record


def test_a_sample_of_session_4_is_that_of_the_fifth_session():
    record = Record([ONE], Measuring())
    record.add(Sample(0, 4, ONE.name, Timing((1.0,), 1)))
    assert record.sessions == 5


def test_the_last_sample_says_how_long_a_run_takes():
    assert record_of(ONE).last_ms(ONE) is None
    assert record_of(ONE, 5.0, 3.0, 4.0).last_ms(ONE) == 4.0


def test_a_measurement_was_made_at_the_median_temperature_and_clock_of_its_samples():
    states = [Condition(t, f) for t, f in ((40, 900), (None, 1500), (61, None), (50.26, 1200))]
    measured = record_of(ONE, 1.0, 1.0, 1.0, 1.0, conditions=states).measurement(ONE)
    assert measured.temperature_c == 50.3
    assert measured.frequency_mhz == 1200.0


def test_networks_may_have_wider_intervals_than_operators():
    within_a_percent_and_a_half = (0.985, 0.99, 1.0, 1.0, 1.01, 1.015)
    assert record_of(NETWORK, *within_a_percent_and_a_half).is_finished(NETWORK)
    assert not record_of(ONE, *within_a_percent_and_a_half).is_finished(ONE)


def test_drift_is_told_from_the_median_round():
    drift = np.array([0.0, 0.1, 0.3, 0.7, 0.2])
    logs = np.arange(LEAST_TOGETHER) + drift[:, None]
    assert median_polish(logs) == pytest.approx(drift - 0.2)


def test_the_median_round_has_no_drift_however_samples_scatter(generator):
    drift = median_polish(generator.normal(size=(7, LEAST_TOGETHER)))
    assert np.median(drift) == pytest.approx(0, abs=1e-12)
    assert np.ptp(drift) > 0.1


def test_a_journal_brings_back_the_temperature_and_the_clock(tmp_path, toy_table):
    sample = Sample(0, 0, "w", Timing((1.0,), 1), Condition(41.5, 1800.0), "d")
    with Journal(tmp_path / "t.journal", toy_table.setting, resume=False) as journal:
        journal.append(sample)
    with Journal(tmp_path / "t.journal", toy_table.setting, resume=True) as journal:
        assert journal.samples == [sample]


@pytest.mark.parametrize(("took", "more"), [(120.0, 8), (120.1, 0)])
def test_nothing_goes_beyond_the_least_samples_once_the_time_is_over(toy_table, took, more):
    op = next(iter(toy_table))
    now = iter([0.0])
    journal = Memory()
    measuring = Measuring(
        sessions=1, max_sessions=2, min_samples=6, max_samples=14, ci95=1e-9, seconds=120.0
    )
    measure(
        ReplayDevice(toy_table),
        [Workload.of_op(op)],
        measuring,
        journal,
        clock=lambda: next(now, took),
    )
    assert journal.count(op.key) == 6 + more


class SteadyDevice(ShakyDevice):
    def level(self, workload):
        return 1.0, 0.0


def test_a_warm_up_takes_a_run_then_batches_each_twice_as_long_up_to_a_sample(toy_table):
    with RetryingSession(SteadyDevice(toy_table)) as session:
        session.sample(Workload.of_op(next(iter(toy_table))), 10.0, None)
        assert session.warm_ups == [1 + 2 + 4 + 8]


def test_processes_are_counted_on_from_the_first_of_them(toy_table):
    device = SteadyDevice(toy_table, losses=[0])
    with RetryingSession(device, first=3, sleep=lambda seconds: None) as session:
        assert session.process == 3
        session.sample(Workload.of_op(next(iter(toy_table))), 10.0, None)
        assert session.process == 4
