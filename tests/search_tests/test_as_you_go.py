"""Measuring while a search runs: the operators that matter, and no others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, Setting, UsageError, candidate_latency
from search.budget import AskedBudget, Budget
from search.jobs.targets import Target
from search.runs.measuring import AsYouGo
from search.spaces import cifar_tree
from search.strategies.hardware_loss import HardwareTerm


@pytest.fixture
def target(toy_table, tmp_path, quick_cpu):
    device = ReplayDevice(toy_table)
    return Target("toy", None, tmp_path / "toy.csv", load_card(quick_cpu), (device,))


def test_at_first_the_largest_network_is_measured_and_the_rest_predicted(
    target, toy_space, toy_table
):
    as_you_go = AsYouGo(target, toy_space, sigmas=0.0)
    largest = set(toy_space.network(toy_space.largest).ops)
    assert set(as_you_go.table) == largest == set(LatencyTable.load(target.path))
    truth = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    goal = as_you_go.goal(AskedBudget.parse("50%").named("toy"))
    assert goal.budget.costs.predict(toy_space.largest) == pytest.approx(
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
    target = Target("toy", None, tmp_path / "toy.csv", load_card(quick_cpu), (device,))
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


def test_without_a_device_nothing_can_be_measured(toy_table, toy_space, tmp_path):
    far = Target("far", toy_table, Path(tmp_path / "far.csv"), None, ())
    with pytest.raises(UsageError, match="nothing can be measured as you go"):
        AsYouGo(far, toy_space, 2.0)
