"""The record of a measurement: drift, what a round is worth, and what is told of a workload."""

import numpy as np
import pytest

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from devices.drift import LEAST_TOGETHER, Burst, Record, median_polish

RULE = Measuring(min_bursts=6, max_bursts=50, drift=0.05)


@pytest.fixture
def workloads(toy_table):
    return [Workload.of_op(op) for op in toy_table][: LEAST_TOGETHER + 1]


def record_of(workloads, speeds, rule=RULE):
    """Rounds in which every workload takes 2 ms times a speed, two rounds a process."""
    record = Record(workloads, rule)
    for number, speed in enumerate(speeds):
        for workload in workloads:
            timing = Timing((2 * speed,) * 3, 3)
            record.add(Burst(number, number // 2, workload.name, timing))
        record.end_round()
    return record


@pytest.mark.parametrize("rounds", [4, 6, 7])
def test_the_median_round_has_no_drift_whatever_was_left_out(rounds):
    logs = np.random.default_rng(0).normal(0, 0.05, (rounds, LEAST_TOGETHER + 1))
    logs[0, 2] = np.nan
    assert np.median(median_polish(logs)) == pytest.approx(0, abs=1e-12)


def test_a_round_of_few_workloads_drifts_as_the_last_one_of_many():
    logs = np.array([0.0, 0.2, 0.0, 0.1, 0.0])[:, None] + np.arange(LEAST_TOGETHER + 2.0)
    logs[2, : -LEAST_TOGETHER + 1] = np.nan  # one short of enough
    logs[3, :-LEAST_TOGETHER] = np.nan  # just enough
    found = median_polish(logs) - median_polish(logs)[0]
    assert found == pytest.approx([0, 0.2, 0.2, 0.1, 0])
    logs[0, 1:] = np.nan  # nothing before it to go by
    assert median_polish(logs)[0] == 0


def test_drift_is_told_of_operators_and_networks_apart(workloads):
    networks = [
        Workload(f"net {number}", (*workloads[0].ops, *workloads[1].ops))
        for number in range(LEAST_TOGETHER)
    ]
    record = Record([*workloads, *networks], RULE)
    for number, (slower, slower_networks) in enumerate([(1, 1), (1.5, 1), (1, 1.25)]):
        for workload in workloads:
            record.add(Burst(number, 0, workload.name, Timing((slower,), 1)))
        for network in networks:
            record.add(Burst(number, 0, network.name, Timing((slower_networks,), 1)))
        record.end_round()
    assert record.drifts == pytest.approx([0, 0.5, 0, 0, 0, 0.25])


def test_a_round_that_drifted_is_made_up_for_but_not_for_ever(workloads):
    record = record_of(workloads, [1, 1, 1, 1.06])
    assert record.below(3) == []
    assert record.below(4) == workloads
    assert record.below(4, redo=False) == []
    restless = record_of(workloads, [1, 1, 1, *[1.2, 0.8] * 3])
    assert restless.below(4) == []  # nine bursts, three of them steady
    assert restless.below(5) == workloads


def test_how_long_a_run_takes_is_that_of_the_last_burst(workloads):
    record = record_of(workloads, [1, 3])
    assert record.last_ms(workloads[0]) == 6.0
    assert Record(workloads, RULE).last_ms(workloads[0]) is None


def test_the_caps_on_bursts_are_of_operators_and_of_networks(workloads):
    rule = RULE.model_copy(update={"max_bursts": 9, "max_network_bursts": 7})
    network = Workload("net", (*workloads[0].ops, *workloads[1].ops))
    record = Record([workloads[0], network], rule)
    assert [record.most(workloads[0]), record.most(network)] == [9, 7]


def test_a_resumed_record_counts_rounds_and_processes_on(workloads):
    names = [(4, 2, workloads[0].name), (7, 1, "gone")]
    earlier = [Burst(*name, Timing((1.0,), 1)) for name in names]
    record = Record(workloads, RULE, earlier)
    assert (record.rounds, record.sittings) == (8, 3)
    assert [record.count(workload) for workload in workloads[:2]] == [1, 0]


def test_a_measurement_tells_all_that_was_read_meanwhile(workloads):
    record = Record(workloads[:1], RULE)
    read = [
        (2.0, 7, 300, Condition(41.0, 1800.0)),
        (2.0, 3, None, Condition(None, None)),
        (2.0, 5, 500, Condition(42.26, 1900.0)),
        (2.0, 5, 400, Condition(43.0, 2400.04)),
    ]
    for number, (ms, runs, memory, condition) in enumerate(read):
        timing = Timing((ms, ms * 1.5, ms * 0.5), runs, memory)
        record.add(Burst(number, number // 2, workloads[0].name, timing, condition))
        record.end_round()
    found = record.measurement(workloads[0], "2026-01-01T00:00:00Z")
    assert (found.median_ms, found.min_ms, found.runs, found.sittings) == (2.0, 1.0, 20, 2)
    assert (found.measured_at, found.memory_bytes) == ("2026-01-01T00:00:00Z", 500)
    assert (found.temperature_c, found.frequency_mhz) == (42.3, 1900.0)
    assert record.conditions == [condition for *_, condition in read]


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((1.0, 1.0, 1.5, 1.5), "bimodal: 1 ms or 1.5 ms; set the governor to performance"),
        ((1.0, 1.0, 1.0, 1.0), ""),
    ],
)
def test_a_workload_that_jumps_between_two_levels_is_noted(workloads, levels, said):
    record = Record(workloads[:1], RULE)
    for number in range(16):
        timing = Timing((levels[number % 4],), 1)
        record.add(Burst(number, number // 8, workloads[0].name, timing))
    record.end_round()
    assert record.measurement(workloads[0]).note.startswith(said)
    assert bool(record.measurement(workloads[0]).note) == bool(said)


def test_processes_that_differ_are_told_from_a_device_that_jumps(workloads):
    record = Record(workloads[:1], RULE)
    for number in range(24):
        sitting = number // 4
        timing = Timing((1.5 if sitting % 2 else 1.0,), 1)
        record.add(Burst(number, sitting, workloads[0].name, timing))
    record.end_round()
    note = record.measurement(workloads[0]).note
    assert note == "bimodal: 1 ms or 1.5 ms; its processes differ: more sittings"


def test_networks_may_have_wider_intervals_than_operators(workloads):
    """Six bursts between 0.97 and 1.03 ms: an interval of 3 %."""
    network = Workload("net", (*workloads[0].ops, *workloads[1].ops))
    record = Record([workloads[0], network], Measuring(min_bursts=6, ci95=0.01, network_ci95=0.04))
    for number, ms in enumerate([0.97, 0.98, 1.0, 1.0, 1.02, 1.03]):
        for workload in record.workloads:
            record.add(Burst(number, 0, workload.name, Timing((ms,), 1)))
        record.end_round()
    assert [record.is_finished(workload) for workload in record.workloads] == [False, True]
    assert record.unfinished() == [workloads[0]]
    found = [record.measurement(workload) for workload in record.workloads]
    assert [row.converged for row in found] == [False, True]
    assert [bool(row.note) for row in found] == [True, False]
