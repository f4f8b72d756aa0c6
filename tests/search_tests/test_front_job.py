"""Fronts: every network within its budgets as measured, or else said not to be."""

import numpy as np
import pytest
from planted import PlantedProblem

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import CandidateLatency, LatError
from search.budget import Budget
from search.commands.search_ways import raise_if_over
from search.console import progress_bar
from search.derivation.evolution import Evolution
from search.derivation.knapsack import fastest_within
from search.jobs.bench import Bench
from search.jobs.targets import Target
from search.runs.front import find_front
from search.runs.plan import SearchPlan
from search.runs.search_run import SearchRun
from search.settings import SearchSettings

SETTINGS = SearchSettings(
    warmup_steps=1,
    search_steps=2,
    arch_every=1,
    batch_size=16,
    arch_batch_size=16,
    evolution_children=4,
)


@pytest.fixture
def planned(toy_table, toy_space, costs, digits, tmp_path, quick_cpu, monkeypatch):
    """The plan of a Pareto front for a device that is slower by a factor than its table says, or
    for one that cannot be reached."""
    monkeypatch.setattr("search.derivation.fitness._IMAGES", 16)

    def plan(asked: str, factor: float | None, *others: Budget) -> SearchPlan:
        bench = None
        if factor is not None:
            devices = (ReplayDevice(toy_table, factor=factor),)
            bench = Bench(load_card(quick_cpu), devices, tmp_path / "t.csv")
        target = Target("toy", toy_table, bench)
        return SearchPlan(
            budgets=(Budget.parse(asked, "toy").over(costs, toy_table), *others),
            targets=dict.fromkeys(("toy", *(other.name for other in others)), target),
            space=toy_space,
            whole=toy_space,
            settings=SETTINGS,
            data=digits,
            seed=0,
            folder=tmp_path / "run",
        )

    return plan


def found(plan, count=4):
    run = SearchRun(plan, plan.folder)
    with progress_bar(quiet=True) as bar:
        return find_front(run, run.search(bar), count, bar)


def test_what_proves_over_a_budget_gives_way_to_what_is_within(planned, costs):
    plan = planned("70%", 1.1)
    front = found(plan)
    assert len(front.networks) == 4
    for row in front.networks:
        assert row["meets"]
        assert row["measured_high_ms"] <= row["budget_ms"] * (1 + 1e-9)
        assert row["measured_ms"] == pytest.approx(1.1 * row["predicted_ms"], rel=0.05)
        assert [budget["name"] for budget in row["budgets"]] == ["toy"]
    assert front.networks[0]["choices"] == np.nanargmin(costs.matrix, axis=1).tolist()
    assert front.networks[-1]["budget_ms"] == plan.budgets[0].limit
    assert front.networks[-1]["measured_ms"] >= 0.85 * plan.budgets[0].limit
    raise_if_over(front.certified)


def test_where_even_the_fastest_network_proves_over_the_front_says_so(planned):
    front = found(planned("1%", 1.3), count=2)
    assert [row["meets"] for row in front.networks] == [False, False]
    with pytest.raises(LatError, match="% over the budget of"):
        raise_if_over(front.certified)


def test_a_front_starts_at_the_fastest_network_within_the_other_budgets(planned, toy_table, costs):
    slowest = np.nanmax(costs.matrix, axis=1, keepdims=True)
    against = CandidateLatency(0.0, slowest - costs.matrix, costs.counts)
    limit = 0.3 * against.fastest_ms + 0.7 * against.slowest_ms
    other = Budget("other", limit, against, model=toy_table)
    front = found(planned("90%", None, other))
    rows = front.networks
    assert rows[0]["predicted_ms"] > 1.1 * costs.fastest_ms
    assert all(row["meets"] and row["measured_ms"] is None for row in rows)
    assert [row["budgets"][1]["name"] for row in rows] == ["other"] * 4
    assert all(against.predict(row["choices"])[0] <= limit for row in rows)
    assert rows[-1]["predicted_ms"] > 1.1 * rows[0]["predicted_ms"]


def test_the_best_known_network_is_one_that_was_scored_and_is_within():
    problem = PlantedProblem.random(0)
    costs = problem.budget.costs
    scored = []

    def fitness(choices):
        scored.append(tuple(choices))
        return problem.total(tuple(choices)), 0.0

    words = fitness, np.random.default_rng(0)
    evolution = Evolution(np.zeros(costs.matrix.shape), [costs], *words, children=4)
    assert evolution.score(fastest_within(costs)).choices == scored[0]
    evolution.best([costs.slowest_ms])
    count = len(scored)
    known = evolution.best_known([0.99 * costs.slowest_ms])
    assert known.choices in scored
    assert costs.predict(known.choices)[0] <= 0.99 * costs.slowest_ms
    assert evolution.best_known([0.99 * costs.fastest_ms]) is None
    assert len(scored) == count
