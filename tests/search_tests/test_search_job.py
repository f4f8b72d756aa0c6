"""One search's job: what it goes by, what it keeps for a resumed run, and what it certifies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, Setting, UsageError, candidate_latency, fit
from search import spaces
from search.budget import AskedBudget, Budget, memory_of, size_costs, within_memory
from search.commands.search_command import _default_folder
from search.confirmation import Attempt, predictions
from search.console import progress_bar
from search.jobs.targets import Target
from search.runs.baselines import _random_search, _widest
from search.runs.certificate import budget_results
from search.runs.checkpoints import _named
from search.runs.goals import Goal, parse_budgets
from search.runs.measuring import AsYouGo
from search.runs.plan import Asked, SearchPlan
from search.runs.search_run import SearchJob
from search.settings import SearchSettings
from search.space import network_at

SETTINGS = SearchSettings(
    warmup_steps=1,
    search_steps=4,
    arch_every=1,
    batch_size=16,
    arch_batch_size=16,
    train_steps=2,
    train_batch_size=16,
)
HALF = AskedBudget.parse("50%").named("toy")


@pytest.fixture
def plan(toy_table, toy_space, costs, tmp_path):
    """A search for a target that is not at hand."""
    target = Target("toy", toy_table, tmp_path / "nowhere.csv", None, ())
    return SearchPlan((Goal(target, toy_table, HALF.of(costs)),), (), toy_space, SETTINGS)


@pytest.fixture
def jagged(toy_table, generator):
    """A device whose operators take what no regression foresees."""
    rows = {
        op: replace(row, median_ms=row.median_ms * generator.uniform(0.5, 1.5))
        for op, row in toy_table.rows.items()
    }
    return ReplayDevice(replace(toy_table, rows=rows))


@pytest.fixture
def as_you_go(toy_space, jagged, tmp_path, quick_cpu):
    """What measures on that device, by what its table has by now."""

    def start() -> AsYouGo:
        path = tmp_path / "toy.csv"
        table = LatencyTable.load(path) if path.exists() else None
        target = Target("toy", table, path, load_card(quick_cpu), (jagged,))
        return AsYouGo(target, toy_space, sigmas=2.0)

    return start


def searched(plan, digits, folder, trained=None) -> SearchJob:
    job = SearchJob(plan, digits, 0, folder, trained)
    with progress_bar(quiet=True) as bar:
        job.search(bar)
    return job


def test_after_a_search_that_measures_all_goes_by_what_was_measured_and_the_limit_stays(
    toy_space, digits, as_you_go, tmp_path
):
    measuring = as_you_go()
    goal = measuring.goal(HALF)
    plan = SearchPlan((goal,), (), toy_space, SETTINGS, measuring)
    first = searched(plan, digits, tmp_path / "run")
    (after,) = first.goals
    assert after.model is measuring.model is not goal.model
    matrix = first.budgets[0].costs.matrix
    np.testing.assert_array_equal(matrix, measuring.costs.matrix)
    assert not np.allclose(matrix, goal.budget.costs.matrix, equal_nan=True)
    assert first.budgets[0].limit == goal.budget.limit
    # Half of the range that is known by now is another limit: a resumed run has the first one.
    again = as_you_go()
    goal = again.goal(HALF)
    assert goal.budget.limit != first.budgets[0].limit
    plan = SearchPlan((goal,), (), toy_space, SETTINGS, again)
    resumed = searched(plan, digits, tmp_path / "run")
    assert resumed.budgets[0].limit == first.budgets[0].limit
    np.testing.assert_array_equal(resumed.budgets[0].costs.matrix, matrix)
    more = again.goal(AskedBudget.parse("60%").named("toy"))
    with pytest.raises(UsageError, match=r"another budgets .*50%.*60%"):
        searched(replace(plan, goals=(more,)), digits, tmp_path / "run")


def test_a_folder_is_named_by_the_budget_in_the_users_words():
    assert _default_folder(HALF, "mini", None) == Path("runs/toy-mini-50%")
    assert _default_folder(HALF, "mini", 8) == Path("runs/toy-mini-front8")
    amount = AskedBudget.parse("toy=400us")
    assert _default_folder(amount, "mini", None) == Path("runs/toy-mini-0.4ms")


def test_networks_of_one_name_have_checkpoints_of_their_own(plan, digits, toy_space, tmp_path):
    job = SearchJob(plan, digits, 0, tmp_path / "run")
    networks = [toy_space.network(choices) for choices in ([0, 0, 0, 0], [1, 2, 3, 4])]
    with progress_bar(quiet=True) as bar:
        rows = [
            job.trained_and_measured("MobileNetV2", network, None, bar)
            for network in (*networks, networks[0])
        ]
    assert rows[0] == rows[2] != rows[1]
    assert len(list((tmp_path / "run" / "checkpoint").glob("mobilenetv2-*.pt"))) == 2


def test_a_supernet_of_other_candidates_is_refused(plan, digits, toy_space, tmp_path):
    searched(plan, digits, tmp_path / "a")
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    small = replace(plan, space=within_memory(toy_space, 0.7 * memory_of(largest(toy_space))))
    assert small.space.tag == plan.space.tag
    with pytest.raises(UsageError, match=r"another space .*memory budget lacks the candidates"):
        searched(small, digits, tmp_path / "b", trained)
    with pytest.raises(UsageError, match="another space"):
        searched(small, digits, tmp_path / "a")
    searched(plan, digits, tmp_path / "c", trained)


def test_a_memory_budget_takes_its_share_of_a_supernet(plan, digits, toy_space, tmp_path):
    searched(plan, digits, tmp_path / "a")
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    memory = 0.7 * memory_of(largest(toy_space))
    within = within_memory(toy_space, memory)
    costs = candidate_latency(plan.goals[0].model, within.blocks, within.fixed)
    goal = replace(plan.goals[0], budget=HALF.of(costs))
    small = replace(plan, goals=(goal,), space=within, whole=toy_space, memory=memory)
    job = SearchJob(small, digits, 0, tmp_path / "b", trained)
    with progress_bar(quiet=True) as bar:
        training = job.search(bar)
    assert training.supernet.space.counts == within.counts != toy_space.counts


def test_targets_of_different_batches_share_a_supernet():
    one, eight = (_named(spaces.load("mini", batch=batch)) for batch in (1, 8))
    assert one == eight != _named(spaces.load("mini", width=0.5))


def derived(plan, digits, folder, choices, trained=None):
    """The networks that a job of the folder derives, where it would choose these."""
    job = SearchJob(plan, digits, 0, folder, trained)
    with progress_bar(quiet=True) as bar:
        return [one.choices for one in job._derive(lambda limits: choices, (), 0, bar)]


def test_a_derivation_is_kept_for_the_costs_it_went_by(plan, digits, tmp_path):
    run, first, second = tmp_path / "run", (0, 0, 0, 0), (1, 1, 1, 1)
    assert derived(plan, digits, run, first) == [first]
    assert derived(plan, digits, run, second) == [first]
    (goal,) = plan.goals
    costs = replace(goal.budget.costs, matrix=1.1 * goal.budget.costs.matrix)
    slower = replace(goal, budget=replace(goal.budget, costs=costs))
    assert derived(replace(plan, goals=(slower,)), digits, run, second) == [second]
    with pytest.raises(UsageError, match=r"another sigmas \(2\.0 there, 1\.0 here\)"):
        derived(replace(plan, sigmas=1.0), digits, run, second)


def test_a_derivation_from_another_supernet_is_refused(plan, digits, tmp_path):
    run, choices = tmp_path / "run", (0, 0, 0, 0)
    for name in "ab":
        (tmp_path / name).write_text(name)
    derived(plan, digits, run, choices, tmp_path / "a")
    derived(plan, digits, run, choices, tmp_path / "a")
    with pytest.raises(UsageError, match="another from"):
        derived(plan, digits, run, choices, tmp_path / "b")


def test_what_matters_by_probabilities_taken_over_is_measured_before_anything_is_derived(
    plan, toy_space, digits, as_you_go, tmp_path
):
    searched(plan, digits, tmp_path / "a")
    measuring = as_you_go()
    before = measuring.measured
    own = SearchPlan((measuring.goal(HALF),), (), toy_space, SETTINGS, measuring)
    job = SearchJob(own, digits, 0, tmp_path / "b", tmp_path / "a" / "checkpoint" / "search.pt")
    with progress_bar(quiet=True) as bar:
        training = job.search(bar)
    assert measuring.measured > before
    assert measuring(training.supernet.probabilities.detach()) == {}
    assert job.goals[0].model is measuring.model


def test_a_search_goes_on_without_the_candidates_that_cannot_be_measured_and_so_does_its_resume(
    toy_space, digits, toy_table, tmp_path, quick_cpu
):
    failing = [toy_space.blocks[0][toy_space.largest[0]], toy_space.blocks[2][0]]
    rows = {op: row for op, row in toy_table.rows.items() if op not in failing}
    device = ReplayDevice(replace(toy_table, rows=rows))
    path = tmp_path / "toy.csv"

    def run(folder):
        table = LatencyTable.load(path) if path.exists() else None
        target = Target("toy", table, path, load_card(quick_cpu), (device,))
        measuring = AsYouGo(target, toy_space, sigmas=2.0)
        plan = SearchPlan((measuring.goal(HALF),), (), toy_space, SETTINGS, measuring)
        job = SearchJob(plan, digits, 0, folder)
        return job.run(0.0, True, True, lambda job, chosen, bar: [])

    first = run(tmp_path / "run")
    again = run(tmp_path / "run")
    for result in (first, again):
        assert failing[0].key in result.failed
        assert set(result.failed) <= {op.key for op in failing}
        for choices in (result.choices, result.largest["choices"]):
            ops = toy_space.network(choices).ops
            assert not set(failing) & set(ops)
        assert result.probabilities[0][toy_space.largest[0]] == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["failed"] == again.failed
    assert again.choices == first.choices


def largest(space):
    return space.network(space.largest)


def chosen(space, budgets) -> Attempt:
    return Attempt(space.largest, largest(space), predictions(budgets, space.largest))


def test_the_certificate_names_the_table_that_the_model_goes_by(plan, toy_table, toy_space):
    (goal,) = plan.goals
    read = replace(toy_table, source="lut_data/toy.csv")
    for model in (read, fit(read, extrapolate=True)):
        goals = (replace(goal, model=model),)
        (result,) = budget_results(goals, (), None, chosen(toy_space, plan.budgets), {})
        assert result.table == "lut_data/toy.csv"


@pytest.mark.parametrize(("share", "meets"), [(1.0, True), (0.9, False)])
def test_memory_is_certified_like_other_sizes(plan, toy_space, share, meets):
    macs = Budget("macs", 1e12, size_costs(toy_space, "macs"))
    attempt = chosen(toy_space, (*plan.budgets, macs))
    takes = memory_of(attempt.network)
    results = budget_results(plan.goals, (macs,), share * takes, attempt, {})
    assert [one.name for one in results] == ["toy", "macs", "memory"]
    assert (results[2].unit, results[2].predicted, results[2].meets) == ("bytes", takes, meets)
    assert results[1].predicted == attempt.network.macs


def test_random_networks_that_break_another_budget_are_no_baseline(
    plan, digits, toy_space, tmp_path, capsys
):
    params = size_costs(toy_space, "params")
    plan = replace(plan, sizes=(Budget("params", params.fastest_ms, params),))
    job = SearchJob(plan, digits, 0, tmp_path / "run")
    with progress_bar(quiet=True) as bar:
        assert _random_search(job, chosen(toy_space, plan.budgets), 1, bar) == []
    assert "no random network to compare with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("meets", "name", "accuracy"),
    [
        ([False, True, True], "random, best of 3", 0.8),
        ([False, False, False], "random, best of 3, over budget", 0.9),
    ],
)
def test_of_random_networks_the_best_within_the_budgets_counts(
    plan, digits, toy_space, tmp_path, meets, name, accuracy
):
    rows = [
        {"valid_accuracy": share, "meets": one}
        for share, one in zip((0.9, 0.8, 0.7), meets, strict=True)
    ]

    class Told(SearchJob):
        def trained_and_measured(self, *words):
            return rows.pop(0)

    job = Told(plan, digits, 0, tmp_path / "run")
    with progress_bar(quiet=True) as bar:
        (best,) = _random_search(job, chosen(toy_space, plan.budgets), 3, bar)
    assert (best["name"], best["valid_accuracy"]) == (name, accuracy)


def test_a_network_that_proves_over_a_budget_does_not_meet_it(
    plan, digits, toy_space, toy_table, tmp_path, quick_cpu
):
    device = ReplayDevice(toy_table)
    (goal,) = plan.goals
    target = replace(goal.target, card=load_card(quick_cpu), devices=(device,))
    goal = replace(goal, target=target)
    fast = toy_space.network(choices := tuple(np.nanargmin(goal.budget.costs.matrix, axis=1)))
    plan = replace(plan, goals=(goal,))
    least = predictions(plan.budgets, choices)["toy"]
    for share, meets in ((1.2, True), (0.9, False)):
        held = replace(goal, budget=replace(goal.budget, limit=share * least))
        job = SearchJob(replace(plan, goals=(held,)), digits, 0, tmp_path / "run")
        with progress_bar(quiet=True) as bar:
            row = job.trained_and_measured("fast", fast, None, bar)
        assert row["meets"] is meets


def test_mobilenet_v2_is_held_to_all_budgets(plan, digits, toy_space, toy_table, tmp_path):
    model = fit(toy_table, extrapolate=True)
    roomy = [replace(g, model=model, budget=replace(g.budget, limit=100.0)) for g in plan.goals]
    params = Budget("params", 5e5, size_costs(toy_space, "params"))
    sizes, memory = {"sizes": (params,)}, {"memory": 1e5}
    networks = [
        _widest(SearchJob(replace(plan, goals=roomy, **words), digits, 0, tmp_path), roomy, {})
        for words in ({}, sizes, memory)
    ]
    assert networks[0].params > 2 * networks[1].params
    assert 4e5 < networks[1].params <= 5e5
    assert 0.5e5 < memory_of(networks[2]) <= 1e5 < memory_of(networks[0])
    none = replace(plan, goals=roomy, sizes=(replace(params, limit=100.0),))
    with pytest.raises(UsageError, match="none is within all budgets"):
        _widest(SearchJob(none, digits, 0, tmp_path), roomy, {})


def test_targets_of_different_batches_have_costs_of_their_own(digits, tmp_path):
    tables = {}
    for name, batch in (("one", 1), ("eight", 8)):
        ops = spaces.load("mini", batch=batch).operators
        rows = {op: Measurement(ms := 0.002 + op.macs * 1e-8, 0.01 * ms, 50, ms) for op in ops}
        setting = Setting(name, "far", runtime="none 0", batch=batch, transport="ssh")
        tables[name] = LatencyTable(setting, rows)
        tables[name].save(tmp_path / f"{name}.csv")
    names = {name: str(tmp_path / f"{name}.csv") for name in tables}
    words = [*(f"{path}=60%" for path in names.values()), "memory=2MB"]
    plan = SearchPlan.of(Asked(parse_budgets(words, None), "mini", None, {}), digits)
    choices = tuple(plan.space.largest)
    network = plan.space.network(choices)
    assert network.batch == 1
    assert memory_of(network_at(network, 8)) <= 2e6
    attempt = Attempt(choices, network, predictions(plan.budgets, choices))
    *results, memory = budget_results(plan.goals, plan.sizes, plan.memory, attempt, {})
    for (name, batch), result in zip((("one", 1), ("eight", 8)), results, strict=True):
        expected = tables[name].predict(network_at(network, batch)).ms
        assert attempt.predicted[names[name]] == pytest.approx(expected, rel=1e-3)
        assert result.predicted == pytest.approx(expected, rel=1e-3)
    assert memory.predicted == memory_of(network_at(network, 8))
    assert SearchJob(plan, digits, 0, tmp_path).batch == 8
