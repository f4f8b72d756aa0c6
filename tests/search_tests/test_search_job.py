"""One search's job: what it goes by, what it keeps for a resumed run, and what it certifies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import LatencyTable, UsageError, fit
from search import spaces
from search.budget import AskedBudget, Budget, memory_of, size_costs, within_memory
from search.commands.as_you_go import AsYouGo
from search.commands.baseline_job import _random_search
from search.commands.certificate import budget_results
from search.commands.console import progress_bar
from search.commands.goals import Goal
from search.commands.search_command import _default_folder
from search.commands.search_job import SearchJob, _candidates
from search.commands.search_plan import SearchPlan
from search.commands.targets import Target
from search.confirmation import Attempt, predictions
from search.settings import SearchSettings

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
        job.search(bar, True)
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


def test_a_folder_is_named_by_the_budget_in_the_users_words(costs):
    share = HALF.of(costs)
    assert _default_folder(share, "mini", None) == Path("runs/toy-mini-50%")
    assert _default_folder(Budget("toy", 0.4, costs), "mini", None) == Path("runs/toy-mini-0.4ms")


def test_networks_of_one_name_have_checkpoints_of_their_own(plan, digits, toy_space, tmp_path):
    job = SearchJob(plan, digits, 0, tmp_path / "run")
    networks = [toy_space.network(choices) for choices in ([0, 0, 0, 0], [1, 2, 3, 4])]
    with progress_bar(quiet=True) as bar:
        rows = [
            job.trained_and_measured("MobileNetV2", network, None, bar, True)
            for network in (*networks, networks[0])
        ]
    assert rows[0] == rows[2] != rows[1]
    assert len(list((tmp_path / "run" / "checkpoint").glob("mobilenetv2-*.pt"))) == 2


def test_a_supernet_of_other_candidates_is_refused(plan, digits, toy_space, tmp_path):
    searched(plan, digits, tmp_path / "a")
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    small = replace(plan, space=within_memory(toy_space, 0.7 * memory_of(largest(toy_space))))
    assert small.space.tag == plan.space.tag
    with pytest.raises(UsageError, match="another space"):
        searched(small, digits, tmp_path / "b", trained)
    with pytest.raises(UsageError, match="another space"):
        searched(small, digits, tmp_path / "a")
    searched(plan, digits, tmp_path / "c", trained)


def test_targets_of_different_batches_share_a_supernet():
    one, eight = (_candidates(spaces.load("mini", batch=batch)) for batch in (1, 8))
    assert one == eight != _candidates(spaces.load("mini", width=0.5))


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
        assert _random_search(job, chosen(toy_space, plan.budgets), 1, bar, True) == []
    assert "no random network to compare with" in capsys.readouterr().err
