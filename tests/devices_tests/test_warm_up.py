"""How many runs a sample is of, and how many come before it."""

from dataclasses import dataclass, field

import pytest

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from devices.measuring.rounds import measure
from devices.measuring.sessions import RetryingSession
from latency import OpSpec
from latency.errors import ConnectionLostError

WORKLOAD = Workload.of_op(OpSpec("conv", 8, 8, 3, 8, 3))


@dataclass
class Steady:
    """A device on which a run takes what `ms` says of how many came before it in its process;
    `calls` holds (warm-up runs, runs) as they were asked for."""

    ms: object
    is_resident: bool = True
    lost: tuple[int, ...] = ()
    calls: list = field(default_factory=list)
    done: int = 0

    label = "steady"

    def open_session(self):
        self.done = 0
        return self

    def load(self, workload):
        return 0

    def run(self, handle, warmup, runs):
        self.calls.append((warmup, runs))
        if len(self.calls) - 1 in self.lost:
            raise ConnectionLostError("gone")
        self.done += warmup + runs
        return Timing(tuple(self.ms(self.done - runs + i) for i in range(runs)), runs)

    def condition(self):
        return Condition()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def samples(device, sample_ms, expected_ms=None, count=1):
    with RetryingSession(device, sleep=lambda seconds: None) as session:
        for _ in range(count):
            session.sample(WORKLOAD, sample_ms, expected_ms)
        return session.warm_ups


def test_batches_double_until_they_are_as_long_as_a_sample_and_no_faster():
    device = Steady(lambda done: 1.0)
    assert samples(device, 10.0) == [15]
    assert device.calls == [(0, 1), (0, 2), (0, 4), (0, 8), (1, 10)]


def test_a_device_that_still_gets_faster_is_run_on():
    device = Steady(lambda done: 2.0 if done < 7 else 1.0)
    assert samples(device, 1.0) == [3]  # the second batch is no faster than the first run
    device = Steady(lambda done: 4.0 if done < 1 else 2.0 if done < 7 else 1.0)
    assert samples(device, 1.0) == [7]
    assert device.calls == [(0, 1), (0, 2), (0, 4), (0, 2)]


def test_a_device_that_never_settles_is_warm_after_64_runs_or_20_samples():
    device = Steady(lambda done: 0.9**done)
    assert samples(device, 100.0) == [127]
    device = Steady(lambda done: 0.9**done)
    assert samples(device, 0.001) == [15]


def test_a_workload_that_was_loaded_is_not_warmed_up_again():
    device = Steady(lambda done: 1.0)
    assert samples(device, 10.0, 1.0, count=2) == [15]
    assert device.calls[-2:] == [(1, 10), (1, 10)]


@pytest.mark.parametrize(
    ("sample_ms", "expected_ms", "asked"),
    [
        (10.0, 1.0, (1, 10)),
        (10.0, 0.1, (1, 50)),
        (10.0, 9.0, (1, 2)),
        (10.0, 10.0, (1, 2)),
        (10.0, 11.0, (0, 2)),
    ],
)
def test_a_sample_is_of_2_to_50_runs_and_one_before_that_is_shorter_than_it(
    sample_ms, expected_ms, asked
):
    device = Steady(lambda done: expected_ms, is_resident=False)
    samples(device, sample_ms, expected_ms)
    assert device.calls == [asked]


def test_what_is_not_known_to_take_how_long_is_run_once_before():
    device = Steady(lambda done: 2.0, is_resident=False)
    samples(device, 10.0)
    assert device.calls == [(0, 1), (1, 5)]


def test_processes_are_counted_one_by_one():
    device = Steady(lambda done: 1.0, is_resident=False, lost=(1,))
    with RetryingSession(device, first=3, sleep=lambda seconds: None) as session:
        assert session.process == 3
        session.sample(WORKLOAD, 10.0, 1.0)
        assert session.process == 3
        session.sample(WORKLOAD, 10.0, 1.0)
        assert session.process == 4


def test_cooling_is_given_up_after_a_while():
    device = Steady(lambda done: 1.0)
    device.condition = lambda: Condition(60.0, None)
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    rule = Measuring(min_samples=6, max_samples=6, sessions=1, cool_below_c=45.0, cool_seconds=2.0)
    measured = measure(device, [WORKLOAD], rule, clock=lambda: now[0], sleep=sleep)
    assert WORKLOAD.name in measured.rows
    assert now[0] == 6 * 3.0
