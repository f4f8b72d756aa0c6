"""Measuring while a search runs: the operators that matter, and no others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import proxyless_g

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import (
    LatencyTable,
    Measurement,
    Setting,
    UsageError,
    candidate_latency,
)
from latency.errors import DeviceError
from latency.tables.calibration import Calibration
from search.baselines import random_within
from search.budget import Budget
from search.derivation.knapsack import derive
from search.jobs.bench import Bench
from search.jobs.targets import Target
from search.runs.measuring import AsYouGo
from search.spaces import cifar_tree
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet


@pytest.fixture
def target(toy_table, tmp_path, quick_cpu):
    device = ReplayDevice(toy_table)
    return Target("toy", None, Bench(load_card(quick_cpu), (device,), tmp_path / "toy.csv"))


def test_at_first_the_largest_network_is_measured_and_the_rest_predicted(
    target, toy_space, toy_table
):
    as_you_go = AsYouGo(target, toy_space, sigmas=0.0)
    largest = set(toy_space.network(toy_space.largest).ops)
    assert set(as_you_go.table) == largest == set(LatencyTable.load(target.bench.path))
    truth = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    budget = as_you_go.laid_out(Budget.parse("50%", "toy"))
    assert budget.costs.predict(toy_space.largest) == pytest.approx(
        truth.predict(toy_space.largest), rel=0.02
    )


def test_then_what_is_likely_and_uncertain_and_nothing_that_is_never_taken(
    target, toy_space, toy_table
):
    as_you_go = AsYouGo(target, toy_space, sigmas=0.0)
    likely = [0, 1, 0, 1]
    probabilities = torch.zeros(4, 7, dtype=torch.float64)
    probabilities[range(4), likely] = 1.0
    before = set(as_you_go.table)
    for _ in range(12):
        revised = as_you_go(probabilities)
    assert revised == {}  # all that matters is known
    taken = {block[i] for block, i in zip(toy_space.blocks, likely, strict=True)}
    assert set(as_you_go.table) - before <= taken
    truth = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed).predict(likely)
    assert as_you_go.costs.predict(likely) == pytest.approx(truth, rel=0.03)
    assert as_you_go.measured < len(toy_space.operators)


def test_more_deviations_make_every_unmeasured_network_slower(target, toy_space):
    as_you_go = AsYouGo(target, toy_space, sigmas=0.0)
    mean = as_you_go.costs
    as_you_go.sigmas = 2.0
    choices = toy_space.random_choices(50, np.random.default_rng(0))
    assert (as_you_go.costs.predict(choices) > mean.predict(choices)).all()


def test_of_trees_the_edges_are_measured_and_the_rest_of_a_cell(tmp_path, quick_cpu):
    space = cifar_tree.build(resolution=16, width=0.2, depth=1)
    rows = {op: Measurement(0.01 + op.macs * 1e-7, 1e-4, 50, 0.01) for op in space.operators}
    device = ReplayDevice(LatencyTable(Setting("toy", "a machine", runtime="none 0"), rows))
    target = Target("toy", None, Bench(load_card(quick_cpu), (device,), tmp_path / "toy.csv"))
    as_you_go = AsYouGo(target, space, sigmas=0.0)
    assert set(as_you_go.table) == set(space.network(space.largest).parts)


def test_what_is_revised_holds_for_rewards_too_and_is_kept_by_a_checkpoint(toy_table, toy_space):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    revised = replace(costs, fixed_ms=3 * costs.fixed_ms, matrix=2 * costs.matrix)
    term, resumed = (HardwareTerm([Budget("toy", 0.15, costs)]) for _ in range(2))
    term.revise("toy", revised)
    resumed.restore(term.state)
    choices = toy_space.random_choices(20, np.random.default_rng(0))
    for one in (term, resumed):
        (budget,) = one.budgets
        assert budget.limit == 0.15
        assert budget.costs.predict(choices).tolist() == revised.predict(choices).tolist()
        np.testing.assert_array_equal(budget.costs.matrix, revised.matrix)


@pytest.fixture
def calibrated(toy_space, toy_table):
    """A table of the largest network, which is twice as fast inside networks."""
    calibration = Calibration(0.5)
    rows = {op: toy_table[op] for op in toy_space.network(toy_space.largest).ops}
    inside = {op: calibration.in_network_ms(op, row.median_ms) for op, row in rows.items()}
    known = {"toy@16": calibration}
    return replace(toy_table, rows=rows, in_network_ms=inside, calibrations=known)


@pytest.mark.parametrize("tag", ["toy@16", "toy@32", "proxyless@224"])
def test_fresh_rows_are_of_the_kind_that_the_tables_rows_are(
    target, toy_space, toy_table, calibrated, capsys, tag
):
    table = replace(calibrated, calibrations={tag: Calibration(0.5)})
    as_you_go = AsYouGo(replace(target, table=table), toy_space, sigmas=0.0)
    likely = [0, 1, 0, 1]
    probabilities = torch.zeros(4, 7, dtype=torch.float64)
    probabilities[range(4), likely] = 1.0
    while as_you_go(probabilities):
        pass
    assert as_you_go.measured > 0
    truth = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed).predict(likely)
    assert as_you_go.costs.predict(likely) == pytest.approx(truth / 2, rel=0.03)
    stored = LatencyTable.load(target.bench.path)
    for op in stored:
        assert stored.in_network_ms[op] == pytest.approx(stored[op].median_ms / 2, rel=1e-3)
    err = " ".join(capsys.readouterr().err.split())
    assert ("no networks of toy@16 were measured" in err) == (tag != "toy@16")


def test_rows_that_were_stored_as_measured_alone_count_as_the_others(
    target, toy_space, toy_table, calibrated
):
    inside = dict(list(calibrated.in_network_ms.items())[:3])
    as_you_go = AsYouGo(
        replace(target, table=replace(calibrated, in_network_ms=inside)), toy_space, sigmas=0.0
    )
    truth = toy_table.predict(toy_space.network(toy_space.largest)).ms
    assert as_you_go.costs.predict(toy_space.largest) == pytest.approx(truth / 2, rel=1e-3)


def test_where_no_network_was_measured_all_operators_count_as_measured_alone(
    target, toy_space, capsys
):
    as_you_go = AsYouGo(target, toy_space, sigmas=0.0)
    assert "no networks of toy@16 were measured" in " ".join(capsys.readouterr().err.split())
    for op, row in as_you_go.table.rows.items():
        assert as_you_go.table.predict_op(op).ms == pytest.approx(row.median_ms)


def without(target, toy_table, *ops):
    """The target on a device that cannot run these operators."""
    rows = {op: row for op, row in toy_table.rows.items() if op not in ops}
    devices = (ReplayDevice(replace(toy_table, rows=rows)),)
    return replace(target, bench=replace(target.bench, devices=devices))


def test_a_candidate_of_the_largest_network_that_fails_gives_way_to_the_next(
    target, toy_space, toy_table, capsys
):
    failing = toy_space.network(toy_space.largest).ops[2]
    as_you_go = AsYouGo(without(target, toy_table, failing), toy_space, sigmas=0.0)
    assert [*as_you_go.failed] == [failing.key]
    err = " ".join(capsys.readouterr().err.split())
    assert f"toy: {failing.key} is left out; it could not be measured" in err
    assert failing not in toy_space.network(as_you_go.largest).ops
    assert not as_you_go.table.missing(toy_space.network(as_you_go.largest).ops)
    places = [[op == failing for op in block] for block in toy_space.blocks]
    for row, is_out in zip(as_you_go.costs.matrix, places, strict=True):
        assert np.isnan(row[: len(is_out)]).tolist() == is_out


def test_a_candidate_that_fails_is_remembered_by_who_resumes(target, toy_space, toy_table, capsys):
    failing = toy_space.network(toy_space.largest).ops[2]
    broken = without(target, toy_table, failing)
    AsYouGo(broken, toy_space, sigmas=0.0)
    resumed = replace(broken, table=LatencyTable.load(target.bench.path))
    again = AsYouGo(resumed, toy_space, sigmas=0.0)
    assert again.measured == 0
    assert [*again.failed] == [failing.key]
    assert "is left out; it could not be measured" in " ".join(capsys.readouterr().err.split())


def test_a_candidate_that_fails_meanwhile_is_left_out_and_never_chosen(
    target, toy_space, toy_table
):
    likely = 1 if toy_space.largest[0] == 0 else 0
    failing = toy_space.blocks[0][likely]
    as_you_go = AsYouGo(without(target, toy_table, failing), toy_space, sigmas=0.0)
    supernet = SuperNet(toy_space)
    with torch.no_grad():
        supernet.alpha[:, likely] = 8.0
    as_you_go.settle(supernet)
    assert as_you_go.failed[failing.key]
    assert LatencyTable.load(target.bench.path).failed[failing.key]
    places = {
        (b, i)
        for b, ops in enumerate(toy_space.blocks)
        for i, op in enumerate(ops)
        if op == failing
    }
    probabilities = supernet.probabilities.detach()
    assert all(probabilities[place] == 0 for place in places)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    generator = np.random.default_rng(0)
    costs = as_you_go.costs
    drawn = random_within(toy_space, costs, costs.slowest_ms, 200, generator, band=0.9)
    paths = [*drawn.tolist(), *(supernet.sample(generator) for _ in range(50))]
    wish = np.where(np.isnan(costs.matrix), 5.0, 0.0)
    paths.append(derive(wish, costs, costs.slowest_ms))
    for path in paths:
        assert places.isdisjoint(enumerate(path))
    for binarisation in ("two", "full"):
        hardware = HardwareTerm([Budget("toy", costs.slowest_ms, costs)])
        sampled, active = proxyless_g(supernet, hardware, binarisation)._sample(generator)
        assert all(i not in sampled[b].tolist() for b, i in places)
        assert (sampled[range(4), active] >= 0).all()


def test_a_fixed_operator_that_fails_ends_the_run(target, toy_space, toy_table):
    with pytest.raises(DeviceError, match="an operator of every network of toy@16"):
        AsYouGo(without(target, toy_table, toy_space.fixed[-1]), toy_space, sigmas=0.0)


def test_a_block_without_a_candidate_that_can_be_measured_ends_the_run(
    target, toy_space, toy_table
):
    block = tuple(op for op in toy_space.blocks[2] if op is not None)
    space = replace(toy_space, blocks=(*toy_space.blocks[:2], block, toy_space.blocks[3]))
    with pytest.raises(DeviceError, match="block 3 of toy@16 has no candidate left"):
        AsYouGo(without(target, toy_table, *block), space, sigmas=0.0)


def test_without_a_device_nothing_can_be_measured(toy_table, toy_space):
    with pytest.raises(UsageError, match="nothing can be measured as you go"):
        AsYouGo(Target("far", toy_table), toy_space, 2.0)
