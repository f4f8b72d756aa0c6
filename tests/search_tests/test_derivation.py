"""Budgets, and the exact derivation against exhaustive search."""

import itertools

import numpy as np
import pytest

from latency import UsageError, candidate_latency
from search.budget import Budget
from search.derivation import derive


@pytest.fixture
def costs(toy_table, toy_space):
    return candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)


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
    with pytest.raises(UsageError, match="the space reaches from"):
        derive(_utility(costs, generator), costs, 0.99 * costs.fastest_ms)


def test_a_budget_is_held_against_the_range_before_any_training(costs):
    with pytest.raises(UsageError, match="below the fastest network: the space reaches from"):
        Budget(0.9 * costs.fastest_ms).check(costs)
    assert Budget((costs.fastest_ms + costs.slowest_ms) / 2).check(costs) is None
    assert "above the slowest network" in Budget(2 * costs.slowest_ms).check(costs)
