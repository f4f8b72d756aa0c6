"""Budgets, and the exact derivation against exhaustive search."""

import ctypes
import itertools
import os

import numpy as np
import pytest
import torch
from scipy import optimize

from latency import CandidateLatency, LatError, OpSpec, UsageError
from latency.errors import InfeasibleError
from latency.operators.network import peak_bytes
from latency.units import format_ms
from search import spaces
from search.budget import (
    Budget,
    check_together,
    macs_of_one,
    memory_of,
    size_costs,
    within_memory,
)
from search.derivation.knapsack import MostProbable, derive, fastest_within
from search.space import network_at, space_at
from search.supernet.supernet import SuperNet


@pytest.fixture
def every_network(toy_space):
    return np.array(list(itertools.product(*(range(count) for count in toy_space.counts))))


def _utility(costs, generator):
    utility = generator.normal(size=costs.matrix.shape)
    return np.where(np.isnan(costs.matrix), -np.inf, utility)


def test_the_derived_network_is_the_best_of_all_within_the_budget(costs, every_network):
    latency = costs.predict(every_network)
    for seed in range(10):
        generator = np.random.default_rng(seed)
        utility = _utility(costs, generator)
        totals = utility[np.arange(len(costs.counts)), every_network].sum(1)
        budget_ms = generator.uniform(costs.fastest_ms, costs.slowest_ms)
        choices = derive(utility, costs, budget_ms)
        best = totals[latency <= budget_ms].max()
        assert costs.predict(choices)[0] <= budget_ms
        assert utility[np.arange(len(choices)), choices].sum() == pytest.approx(best)


def test_a_lower_bound_is_kept_too(costs, every_network, generator):
    utility = _utility(costs, generator)
    low, high = np.quantile(costs.predict(every_network), [0.4, 0.42])
    choices = derive(utility, costs, high, at_least_ms=low)
    latency = costs.predict(every_network)
    totals = utility[np.arange(len(costs.counts)), every_network].sum(1)
    inside = (latency >= low) & (latency <= high)
    assert low - 1e-6 <= costs.predict(choices)[0] <= high
    assert utility[np.arange(len(choices)), choices].sum() == pytest.approx(totals[inside].max())


def test_the_fastest_network_is_found_at_its_own_latency(costs, generator):
    choices = derive(_utility(costs, generator), costs, costs.fastest_ms)
    assert costs.predict(choices)[0] == pytest.approx(costs.fastest_ms)


def test_below_the_fastest_network_there_is_none(costs, generator):
    with pytest.raises(InfeasibleError, match="the space reaches from"):
        derive(_utility(costs, generator), costs, 0.99 * costs.fastest_ms)


def test_a_budget_is_held_against_the_range_before_any_training(costs):
    with pytest.raises(InfeasibleError, match="below the fastest network: the space reaches from"):
        Budget("cpu", 0.9 * costs.fastest_ms, costs).check()
    assert Budget("cpu", (costs.fastest_ms + costs.slowest_ms) / 2, costs).check() is None
    assert "above the slowest network" in Budget("cpu", 2 * costs.slowest_ms, costs).check()


def test_of_several_budgets_each_holds_and_the_best_network_is_found(
    toy_space, costs, every_network
):
    params = size_costs(toy_space, "params")
    latency, sizes = costs.predict(every_network), params.predict(every_network)
    for seed in range(10):
        generator = np.random.default_rng(seed)
        utility = _utility(costs, generator)
        totals = utility[np.arange(len(costs.counts)), every_network].sum(1)
        most_ms, most_params = np.quantile(latency, 0.5), np.quantile(sizes, 0.3)
        choices = derive(utility, costs, most_ms, others=[(params, most_params)])
        best = totals[(latency <= most_ms) & (sizes <= most_params)].max()
        assert utility[np.arange(len(choices)), choices].sum() == pytest.approx(best)


def test_budgets_that_no_network_meets_together_are_refused_before_any_training(toy_space, costs):
    macs = size_costs(toy_space, "macs")
    budgets = [Budget("cpu", costs.slowest_ms, costs), Budget("macs", macs.fastest_ms / 2, macs)]
    with pytest.raises(InfeasibleError, match="within the other budgets"):
        check_together(budgets)


def test_sizes_of_a_network_are_those_of_its_operators(toy_space, every_network):
    for name in ("params", "macs"):
        predicted = size_costs(toy_space, name).predict(every_network[::97])
        networks = [toy_space.network(row.tolist()) for row in every_network[::97]]
        assert predicted.tolist() == [getattr(network, name) for network in networks]


def test_multiply_accumulates_are_of_one_input_whatever_the_batch():
    one, eight = (spaces.load("mini", batch=batch) for batch in (1, 8))
    network = eight.network(eight.largest)
    assert macs_of_one(network) == one.network(one.largest).macs == network.macs // 8
    for name, size in (("macs", macs_of_one(network)), ("params", network.params)):
        assert size_costs(eight, name).predict(eight.largest).tolist() == [size]


def test_a_memory_budget_takes_out_the_candidates_over_it(toy_space):
    peaks = [peak_bytes(op) for op in toy_space.operators]
    limit = 0.7 * max(peaks)
    within = within_memory(toy_space, limit)
    assert max(peak_bytes(op) for op in within.operators) <= limit < max(peaks)
    assert within.size < toy_space.size
    with pytest.raises(InfeasibleError, match="every network of the space takes at least"):
        within_memory(toy_space, 1000)


def test_where_no_candidate_of_a_block_is_within_a_memory_budget_the_block_is_skipped():
    within = within_memory(space_at(spaces.load("mini"), 8), 900e3)
    assert (None,) in within.blocks
    assert within.network(within.largest).ops
    images = torch.zeros(2, 3, 32, 32)
    assert SuperNet(within)(images, within.largest).shape == (2, 10)


def test_the_peak_of_a_bottleneck_is_that_of_its_widest_moment():
    op = OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 6, "relu6")
    hidden, border = 8 * 8 * 96 * 4, 8 * 8 * 16 * 4
    assert peak_bytes(op) == 2 * hidden + border  # the input waits for the residual addition
    assert peak_bytes(OpSpec("conv", 8, 8, 3, 4, 3, 1)) == 8 * 8 * (3 + 4) * 4


@pytest.mark.parametrize(
    ("text", "name", "kind", "limit", "share"),
    [
        ("5ms", "cpu", "latency", 5.0, None),
        ("gpu=750us", "gpu", "latency", 0.75, None),
        ("50%", "cpu", "latency", np.nan, 0.5),
        ("params=3M", "params", "params", 3e6, None),
        ("macs=30%", "macs", "macs", np.nan, 0.3),
        ("memory=2MB", "memory", "memory", 2e6, None),
        ("memory=512KiB", "memory", "memory", 524288.0, None),
    ],
)
def test_budgets_as_people_write_them(text, name, kind, limit, share):
    budget = Budget.parse(text, "cpu")
    assert (budget.name, budget.kind, budget.share) == (name, kind, share)
    assert budget.limit == pytest.approx(limit, nan_ok=True)


def test_a_share_becomes_a_limit_over_a_space_and_stays_what_was_asked(costs):
    budget = Budget.parse("25%", "cpu")
    with pytest.raises(ValueError, match="empty sequence"):
        budget.costs.fastest_ms  # noqa: B018
    over = budget.over(costs)
    assert over.limit == pytest.approx(0.75 * costs.fastest_ms + 0.25 * costs.slowest_ms)
    assert (over.asked, over.text(over.limit)) == ("25%", format_ms(over.limit))
    assert Budget.parse("5ms", "cpu").over(costs).limit == 5.0


def test_the_usage_of_a_budget_is_what_its_kind_counts(toy_space, toy_table, costs):
    one = toy_space.network(toy_space.largest)
    eight = network_at(one, 8)
    latency = Budget.parse("1ms", "cpu").over(costs, toy_table)
    assert latency.usage(eight) == toy_table.predict(one).ms
    assert Budget("macs", 1e6).usage(eight) == one.macs
    assert Budget("params", 1e6).usage(eight) == one.params
    assert Budget("memory", 1e6, batch=8).usage(one) == 8 * memory_of(one)


@pytest.mark.parametrize("text", ["params=3ms", "memory=50%", "gpu=3M", "120%", "params=-1"])
def test_budgets_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError):
        Budget.parse(text, "cpu")


@pytest.fixture
def hard():
    """Utility, costs and other costs of a space that HiGHS prints of and fails at, presolved."""
    utility = np.log([[0.47, 0.53], [0.37, 0.63], [0.47, 0.53], [0.53, 0.47]])
    ms = np.array([[1.6, 0.5], [0.6, 0.2], [3.2, 1.6], [0.8, 0.6]])
    other = np.array([[2.99, 2.24], [3.68, 1.78], [1.04, 0.70], [0.94, 3.87]])
    counts = np.full(4, 2)
    return utility, CandidateLatency(0.05, ms, counts), CandidateLatency(0.0, other, counts)


def test_where_the_solver_fails_on_a_presolved_problem_it_is_solved_without(hard):
    utility, costs, other = hard
    every = np.array(list(itertools.product(range(2), repeat=4)))
    latency = costs.predict(every)
    assert not ((latency >= 3.84) & (latency <= 3.94)).any()
    with pytest.raises(UsageError, match=r"no network between 3\.84 ms and 3\.94 ms within"):
        derive(utility, costs, 3.94, at_least_ms=3.84, others=[(other, 9.92)])
    choices = MostProbable(utility, [costs, other])([3.94, 9.92])
    totals = utility[np.arange(4), every].sum(1)
    within = (latency <= 3.94) & (other.predict(every) <= 9.92)
    assert utility[np.arange(4), choices].sum() == pytest.approx(totals[within].max())


def test_nothing_of_what_the_solver_prints_reaches_the_standard_output(hard, capfd):
    utility, costs, other = hard
    with pytest.raises(UsageError):
        derive(utility, costs, 3.94, at_least_ms=3.84, others=[(other, 9.92)])
    libc = ctypes.CDLL(None)
    libc.puts(b"after")
    libc.fflush(None)
    assert capfd.readouterr().out == "after\n"


def test_what_is_printed_while_the_solver_runs_is_not_lost(costs, generator, capfd, monkeypatch):
    def milp(*arguments, **options):
        os.write(1, b"from another thread\n")
        return optimize.OptimizeResult(status=2, x=None, message="infeasible")

    monkeypatch.setattr(optimize, "milp", milp)
    with pytest.raises(UsageError):
        derive(_utility(costs, generator), costs, 0.5 * costs.fastest_ms)
    assert capfd.readouterr().out == "from another thread\n"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (1, "reached a limit of time or iterations: halted"),
        (3, "found the problem unbounded: halted"),
        (4, "failed: halted"),
    ],
)
@pytest.mark.parametrize("has_found", [True, False])
def test_a_solver_that_stops_early_is_not_taken_for_a_space_without_a_network(
    costs, generator, monkeypatch, status, said, has_found
):
    def milp(gain, **options):
        x = np.zeros_like(gain) if has_found else None
        return optimize.OptimizeResult(status=status, x=x, message="halted")

    monkeypatch.setattr(optimize, "milp", milp)
    utility = _utility(costs, generator)
    for search in (
        lambda: derive(utility, costs, costs.slowest_ms),
        lambda: MostProbable(utility, [costs])([costs.slowest_ms]),
    ):
        with pytest.raises(LatError, match=said) as caught:
            search()
        assert not isinstance(caught.value, UsageError)


def test_the_fastest_network_within_other_limits_is_the_fastest_of_all_that_are(
    toy_space, costs, every_network
):
    for seed in range(5):
        generator = np.random.default_rng(seed)
        matrix = np.where(np.isnan(costs.matrix), np.nan, generator.random(costs.matrix.shape))
        other = CandidateLatency(0.0, matrix, costs.counts)
        taken = other.predict(every_network)
        limit = float(np.quantile(taken, 0.1))
        choices = fastest_within(costs, [(other, limit)])
        assert other.predict(choices)[0] <= limit
        least = costs.predict(every_network)[taken <= limit].min()
        assert costs.predict(choices)[0] == pytest.approx(least)
    assert costs.predict(fastest_within(costs))[0] == costs.fastest_ms
    with pytest.raises(UsageError, match="within the other budgets"):
        fastest_within(costs, [(other, 0.0)])
