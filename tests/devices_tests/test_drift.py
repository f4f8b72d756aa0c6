"""The record of a measurement: drift, what a round is worth, and what is told of a workload."""

from dataclasses import replace

import numpy as np
import pytest
from doubles import Memory

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from devices.measuring.record import LEAST_TOGETHER, Record, Sample, median_polish
from devices.measuring.rounds import measure
from devices.replay import ReplayDevice
from latency import Measurement, OpSpec

RULE = Measuring(min_samples=6, max_samples=50, drift=0.05)


@pytest.fixture
def workloads(toy_table):
    return [Workload.of_op(op) for op in toy_table][: LEAST_TOGETHER + 1]


def record_of(workloads, speeds, rule=RULE):
    """Rounds in which every workload takes 2 ms times a speed, two rounds a process."""
    record = Record(workloads, rule)
    for number, speed in enumerate(speeds):
        for workload in workloads:
            timing = Timing((2 * speed,) * 3, 3)
            record.add(Sample(number, number // 2, workload.name, timing))
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
            record.add(Sample(number, 0, workload.name, Timing((slower,), 1)))
        for network in networks:
            record.add(Sample(number, 0, network.name, Timing((slower_networks,), 1)))
        record.end_round()
    assert record.drifts == pytest.approx([0, 0.5, 0, 0, 0, 0.25])


def test_a_round_that_drifted_is_made_up_for_but_not_for_ever(workloads):
    record = record_of(workloads, [1, 1, 1, 1.06])
    assert record.below(3) == []
    assert record.below(4) == workloads
    assert record.below(4, redo=False) == []
    restless = record_of(workloads, [1, 1, 1, *[1.2, 0.8] * 3])
    assert restless.below(4) == []  # nine samples, three of them steady
    assert restless.below(5) == workloads


def test_how_long_a_run_takes_is_that_of_the_last_sample(workloads):
    record = record_of(workloads, [1, 3])
    assert record.last_ms(workloads[0]) == 6.0
    assert Record(workloads, RULE).last_ms(workloads[0]) is None


def test_the_caps_on_samples_are_of_operators_and_of_networks(workloads):
    rule = RULE.model_copy(update={"max_samples": 9, "max_network_samples": 7})
    network = Workload("net", (*workloads[0].ops, *workloads[1].ops))
    record = Record([workloads[0], network], rule)
    assert [record.most(workloads[0]), record.most(network)] == [9, 7]


def test_a_resumed_record_counts_rounds_and_processes_on(workloads):
    known = Sample(4, 2, "any name", Timing((1.0,), 1), digest=workloads[0].digest)
    earlier = [known, Sample(7, 1, workloads[1].name, Timing((1.0,), 1), digest="of another")]
    record = Record(workloads, RULE, earlier)
    assert (record.rounds, record.sessions) == (8, 3)
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
        record.add(Sample(number, number // 2, workloads[0].name, timing, condition))
        record.end_round()
    found = record.measurement(workloads[0], "2026-01-01T00:00:00Z")
    assert (found.median_ms, found.min_ms, found.runs, found.sessions) == (2.0, 1.0, 20, 2)
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
        record.add(Sample(number, number // 8, workloads[0].name, timing))
    record.end_round()
    assert record.measurement(workloads[0]).note.startswith(said)
    assert bool(record.measurement(workloads[0]).note) == bool(said)


def test_processes_that_differ_are_told_from_a_device_that_jumps(workloads):
    record = Record(workloads[:1], RULE)
    for number in range(24):
        session = number // 4
        timing = Timing((1.5 if session % 2 else 1.0,), 1)
        record.add(Sample(number, session, workloads[0].name, timing))
    record.end_round()
    note = record.measurement(workloads[0]).note
    assert note == "bimodal: 1 ms or 1.5 ms; its processes differ: more sessions"


def test_networks_may_have_wider_intervals_than_operators(workloads):
    """Six samples between 0.97 and 1.03 ms: an interval of 3 %."""
    network = Workload("net", (*workloads[0].ops, *workloads[1].ops))
    record = Record([workloads[0], network], Measuring(min_samples=6, ci95=0.01, network_ci95=0.04))
    for number, ms in enumerate([0.97, 0.98, 1.0, 1.0, 1.02, 1.03]):
        for workload in record.workloads:
            record.add(Sample(number, 0, workload.name, Timing((ms,), 1)))
        record.end_round()
    assert [record.is_finished(workload) for workload in record.workloads] == [False, True]
    assert [record.is_finished(w) for w in (workloads[0], network)] == [False, True]
    found = [record.measurement(workload) for workload in record.workloads]
    assert [row.converged for row in found] == [False, True]
    assert [bool(row.note) for row in found] == [True, False]


def test_where_no_round_is_steady_all_are_corrected(workloads):
    found = record_of(workloads, [1.2, 0.8] * 4).measurement(workloads[0])
    usual = 2 * (1.2 * 0.8) ** 0.5
    assert (found.median_ms, found.min_ms) == pytest.approx((usual, usual))
    assert found.relative_ci95 == pytest.approx(0, abs=1e-12)
    assert found.runs == 24


def test_a_round_under_way_has_no_drift_yet(workloads):
    record = record_of(workloads, [1] * 6)
    record.add(Sample(6, 3, workloads[0].name, Timing((1.0,), 1)))
    found = record.measurement(workloads[0])
    assert (found.median_ms, found.min_ms, found.runs) == (2.0, 1.0, 19)


def _rounds(journal):
    rounds = {}
    for sample in journal.samples:
        rounds.setdefault(sample.round, []).append(sample.workload)
    return [rounds[number] for number in sorted(rounds)]


NOISY = OpSpec("conv", 4, 4, 8, 8, 3)


def _with_a_noisy_one(table):
    rows = {op: replace(row, ci95_ms=1e-6 * row.median_ms) for op, row in table.rows.items()}
    return replace(table, rows={NOISY: Measurement(1.0, 0.4, 50, 0.9), **rows})


@pytest.mark.parametrize(("count", "beside"), [(20, 16), (16, 16), (9, 9), (8, 8), (7, 1), (1, 1)])
def test_what_is_measured_on_has_finished_ones_beside_it_that_tell_drift(toy_table, count, beside):
    table = _with_a_noisy_one(toy_table)
    workloads = [Workload.of_op(op) for op in table][:count]
    assert len(workloads) == count
    journal = Memory()
    rule = Measuring(sessions=2, min_samples=6, max_samples=14)
    measured = measure(ReplayDevice(table), workloads, rule, journal)
    rounds = _rounds(journal)
    assert {len(names) for names in rounds[:6]} == {count}
    assert {len(names) for names in rounds[6:]} == {beside}
    assert all(NOISY.key in names for names in rounds)
    assert all(len(set(names)) == len(names) for names in rounds)
    told = measured.circumstances["drift"]
    assert told.startswith(f"0 of {len(rounds) * 2} rounds by over 2 %, worst ")


def test_networks_and_operators_are_not_beside_each_other(toy_table, toy_space):
    table = _with_a_noisy_one(toy_table)
    operators = [Workload.of_op(op) for op in table][:9]
    choices = toy_space.random_choices(9, np.random.default_rng(0))
    networks = [Workload.of_network(toy_space.network(row)) for row in choices]
    journal = Memory()
    rule = Measuring(sessions=2, min_samples=6, max_samples=14)
    measure(ReplayDevice(table), [*operators, *networks], rule, journal)
    rounds = _rounds(journal)
    assert {len(names) for names in rounds[:6]} == {18}
    assert rounds[6:]
    assert {frozenset(names) for names in rounds[6:]} == {frozenset(w.name for w in operators)}
