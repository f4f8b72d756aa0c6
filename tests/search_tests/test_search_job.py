"""One search's job: what it goes by, what it keeps for a resumed run, and what it certifies."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices.card import load_card
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, Setting, UsageError, candidate_latency, fit
from latency.errors import InfeasibleError
from search import spaces
from search.budget import Budget, memory_of, size_costs, within_memory
from search.commands.search_ways import default_folder, parse_budgets
from search.confirmation import Attempt, attempt_of
from search.console import progress_bar
from search.jobs.bench import Bench
from search.jobs.targets import Target
from search.runs import baselines
from search.runs.baselines import trained_and_measured
from search.runs.certificate import budget_outcomes, certified
from search.runs.checkpoints import _named
from search.runs.found_network import derived, find_network
from search.runs.measuring import AsYouGo
from search.runs.plan import SearchPlan, plan_search
from search.runs.search_run import SearchRun
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
HALF = Budget.parse("50%", "toy")


@pytest.fixture
def plan(toy_table, toy_space, costs, digits, tmp_path):
    """A search for a target whose device cannot be reached."""
    return SearchPlan(
        budgets=(HALF.over(costs, toy_table),),
        targets={"toy": Target("toy", toy_table)},
        space=toy_space,
        whole=toy_space,
        settings=SETTINGS,
        data=digits,
        seed=0,
        folder=tmp_path / "run",
    )


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
        target = Target("toy", table, Bench(load_card(quick_cpu), (jagged,), path))
        return AsYouGo(target, toy_space, sigmas=2.0)

    return start


def measured_by(plan, measuring, share="50%") -> SearchPlan:
    """The same search, whose operators are measured on the way."""
    budget = measuring.laid_out(Budget.parse(share, "toy"))
    return replace(plan, budgets=(budget,), as_you_go=measuring)


def searched(plan, folder) -> SearchRun:
    run = SearchRun(plan, folder)
    with progress_bar(quiet=True) as bar:
        run.search(bar)
    return run


def test_after_a_search_that_measures_all_goes_by_what_was_measured_and_the_limit_stays(
    plan, as_you_go, tmp_path
):
    measuring = as_you_go()
    before = measured_by(plan, measuring)
    first = searched(before, tmp_path / "run")
    (after,) = first.budgets
    assert after.model is measuring.model is not before.budgets[0].model
    matrix = after.costs.matrix
    np.testing.assert_array_equal(matrix, measuring.costs.matrix)
    assert not np.allclose(matrix, before.budgets[0].costs.matrix, equal_nan=True)
    assert after.limit == before.budgets[0].limit
    # Half of the range that is known by now is another limit: a resumed run has the first one.
    again = as_you_go()
    anew = measured_by(plan, again)
    assert anew.budgets[0].limit != after.limit
    resumed = searched(anew, tmp_path / "run")
    assert resumed.budgets[0].limit == after.limit
    np.testing.assert_array_equal(resumed.budgets[0].costs.matrix, matrix)
    with pytest.raises(UsageError, match=r"another budgets .*50%.*60%"):
        searched(measured_by(plan, again, "60%"), tmp_path / "run")


def test_a_folder_is_named_by_the_budget_in_the_users_words(costs):
    for share in (HALF, HALF.over(costs)):
        assert default_folder(share, "mini") == Path("runs/toy-mini-50%")
    assert default_folder(Budget("toy", 0.4), "mini") == Path("runs/toy-mini-0.4ms")
    assert default_folder(HALF, "mini", pareto=8) == Path("runs/toy-mini-front8")


def test_networks_of_one_name_have_checkpoints_of_their_own(plan, toy_space, tmp_path):
    run = SearchRun(plan, tmp_path / "run")
    networks = [toy_space.network(choices) for choices in ([0, 0, 0, 0], [1, 2, 3, 4])]
    with progress_bar(quiet=True) as bar:
        rows = [
            trained_and_measured(run, "MobileNetV2", Attempt((), network, {}), bar)
            for network in (*networks, networks[0])
        ]
    assert rows[0] == rows[2] != rows[1]
    assert len(list((tmp_path / "run" / "checkpoint").glob("mobilenetv2-*.pt"))) == 2


def test_a_supernet_of_other_candidates_is_refused(plan, toy_space, tmp_path):
    searched(plan, tmp_path / "a")
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    small = replace(plan, space=within_memory(toy_space, 0.7 * memory_of(largest(toy_space))))
    assert small.space.tag == plan.space.tag
    small = replace(small, whole=small.space)
    with pytest.raises(UsageError, match=r"another space .*a supernet can be used only with"):
        searched(replace(small, trained=trained), tmp_path / "b")
    with pytest.raises(UsageError, match="another space"):
        searched(small, tmp_path / "a")
    searched(replace(plan, trained=trained), tmp_path / "c")


def test_a_memory_budget_takes_its_share_of_a_supernet(plan, toy_space, tmp_path):
    searched(plan, tmp_path / "a")
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    memory = Budget("memory", 0.7 * memory_of(largest(toy_space)))
    within = within_memory(toy_space, memory.limit)
    model = plan.budgets[0].model
    costs = candidate_latency(model, within.blocks, within.fixed)
    budgets = (HALF.over(costs, model), memory)
    small = replace(plan, budgets=budgets, space=within, trained=trained)
    run = SearchRun(small, tmp_path / "b")
    with progress_bar(quiet=True) as bar:
        training = run.search(bar)
    assert training.supernet.space.counts == within.counts != toy_space.counts


def test_targets_of_different_batches_share_a_supernet():
    one, eight = (_named(spaces.load("mini", batch=batch)) for batch in (1, 8))
    assert one == eight != _named(spaces.load("mini", width=0.5))


def choices_derived(plan, folder, choices):
    """The networks that a run in the folder derives, where it would choose these."""
    run = SearchRun(plan, folder)
    with progress_bar(quiet=True) as bar:
        return [one.choices for one in derived(run, lambda limits: choices, (), 0, bar)]


def test_a_derivation_is_kept_for_the_costs_it_went_by(plan, tmp_path):
    run, first, second = tmp_path / "run", (0, 0, 0, 0), (1, 1, 1, 1)
    assert choices_derived(plan, run, first) == [first]
    assert choices_derived(plan, run, second) == [first]
    (budget,) = plan.budgets
    costs = replace(budget.costs, matrix=1.1 * budget.costs.matrix)
    slower = replace(plan, budgets=(replace(budget, costs=costs),))
    assert choices_derived(slower, run, second) == [second]
    with pytest.raises(UsageError, match=r"another sigmas \(2\.0 there, 1\.0 here\)"):
        choices_derived(replace(plan, sigmas=1.0), run, second)


def test_a_derivation_from_another_supernet_is_refused(plan, tmp_path):
    run, choices = tmp_path / "run", (0, 0, 0, 0)
    for name in "ab":
        (tmp_path / name).write_text(name)
    choices_derived(replace(plan, trained=tmp_path / "a"), run, choices)
    choices_derived(replace(plan, trained=tmp_path / "a"), run, choices)
    with pytest.raises(UsageError, match="another from"):
        choices_derived(replace(plan, trained=tmp_path / "b"), run, choices)


def test_what_matters_by_probabilities_taken_over_is_measured_before_anything_is_derived(
    plan, as_you_go, tmp_path
):
    searched(plan, tmp_path / "a")
    measuring = as_you_go()
    before = measuring.measured
    trained = tmp_path / "a" / "checkpoint" / "search.pt"
    run = SearchRun(replace(measured_by(plan, measuring), trained=trained), tmp_path / "b")
    with progress_bar(quiet=True) as bar:
        training = run.search(bar)
    assert measuring.measured > before
    assert measuring(training.supernet.probabilities.detach()) == {}
    assert run.budgets[0].model is measuring.model


def test_a_search_goes_on_without_the_candidates_that_cannot_be_measured_and_so_does_its_resume(
    plan, toy_space, toy_table, tmp_path, quick_cpu
):
    failing = [toy_space.blocks[0][toy_space.largest[0]], toy_space.blocks[2][0]]
    rows = {op: row for op, row in toy_table.rows.items() if op not in failing}
    device = ReplayDevice(replace(toy_table, rows=rows))
    path = tmp_path / "toy.csv"

    def run(folder):
        table = LatencyTable.load(path) if path.exists() else None
        target = Target("toy", table, Bench(load_card(quick_cpu), (device,), path))
        measuring = AsYouGo(target, toy_space, sigmas=2.0)
        measured = replace(measured_by(plan, measuring), targets={"toy": target})
        run = SearchRun(measured, folder)
        with progress_bar(quiet=True) as bar:
            training = run.search(bar)
            found = find_network(run, training, bar)
            return certified(run, training, found, baselines=[], started=0.0)

    first = run(tmp_path / "run")
    again = run(tmp_path / "run")
    for result in (first, again):
        assert failing[0].key in result.failed
        assert set(result.failed) <= {op.key for op in failing}
        assert not set(failing) & set(toy_space.network(result.choices).ops)
        assert result.probabilities[0][toy_space.largest[0]] == 0
    again.save(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["failed"] == again.failed
    assert again.choices == first.choices


def largest(space):
    return space.network(space.largest)


def chosen(space, budgets) -> Attempt:
    return attempt_of(space, space.largest, budgets)


def test_the_certificate_names_the_table_that_the_model_goes_by(plan, toy_table, toy_space):
    read = replace(toy_table, source="lut_data/toy.csv")
    for model in (read, fit(read, extrapolate=True)):
        budgets = (replace(plan.budgets[0], model=model),)
        (outcome,) = budget_outcomes(budgets, chosen(toy_space, budgets), {})
        assert outcome.table == "lut_data/toy.csv"


@pytest.mark.parametrize(("share", "meets"), [(1.0, True), (0.9, False)])
def test_memory_is_certified_like_other_sizes(plan, toy_space, share, meets):
    macs = Budget("macs", 1e12, size_costs(toy_space, "macs"))
    attempt = chosen(toy_space, (*plan.budgets, macs))
    takes = memory_of(attempt.network)
    budgets = (*plan.budgets, macs, Budget("memory", share * takes))
    outcomes = budget_outcomes(budgets, attempt, {})
    assert [one.name for one in outcomes] == ["toy", "macs", "memory"]
    assert (outcomes[2].unit, outcomes[2].predicted, outcomes[2].meets) == ("bytes", takes, meets)
    assert outcomes[1].predicted == attempt.network.macs


def test_random_networks_that_break_another_budget_are_no_baseline(
    plan, toy_space, tmp_path, capsys
):
    params = size_costs(toy_space, "params")
    plan = replace(plan, budgets=(*plan.budgets, Budget("params", params.fastest_ms, params)))
    run = SearchRun(plan, tmp_path / "run")
    with progress_bar(quiet=True) as bar:
        assert baselines._random_search(run, chosen(toy_space, plan.budgets), 1, bar) == []
    assert "no random network to compare with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("meets", "name", "accuracy"),
    [
        ([False, True, True], "random, best of 3", 0.8),
        ([False, False, False], "random, best of 3, over budget", 0.9),
    ],
)
def test_of_random_networks_the_best_within_the_budgets_counts(
    plan, toy_space, tmp_path, monkeypatch, meets, name, accuracy
):
    rows = [
        {"valid_accuracy": share, "meets": one}
        for share, one in zip((0.9, 0.8, 0.7), meets, strict=True)
    ]

    monkeypatch.setattr(baselines, "trained_and_measured", lambda *arguments: rows.pop(0))
    run = SearchRun(plan, tmp_path / "run")
    with progress_bar(quiet=True) as bar:
        (best,) = baselines._random_search(run, chosen(toy_space, plan.budgets), 3, bar)
    assert (best["name"], best["valid_accuracy"]) == (name, accuracy)


def test_a_network_that_proves_over_a_budget_does_not_meet_it(
    plan, toy_space, toy_table, tmp_path, quick_cpu
):
    bench = Bench(load_card(quick_cpu), (ReplayDevice(toy_table),), tmp_path / "t.csv")
    target = replace(plan.targets["toy"], bench=bench)
    (budget,) = plan.budgets
    fast = toy_space.network(choices := tuple(np.nanargmin(budget.costs.matrix, axis=1)))
    least = budget.costs.predict(choices)[0]
    for share, meets in ((1.2, True), (0.9, False)):
        held = replace(budget, limit=share * least)
        run = SearchRun(replace(plan, budgets=(held,), targets={"toy": target}), tmp_path / "run")
        with progress_bar(quiet=True) as bar:
            row = trained_and_measured(run, "fast", Attempt((), fast, {}), bar)
        assert row["meets"] is meets


def test_mobilenet_v2_is_held_to_all_budgets(plan, toy_space, toy_table, tmp_path):
    model = fit(toy_table, extrapolate=True)
    roomy = replace(plan.budgets[0], model=model, limit=100.0)
    params = Budget("params", 5e5, size_costs(toy_space, "params"))
    memory = Budget("memory", 1e5)

    def widest(*sizes):
        run = SearchRun(replace(plan, budgets=(roomy, *sizes)), tmp_path)
        return baselines._widest(run, {"toy": roomy}, {})

    networks = [widest(), widest(params), widest(memory)]
    assert networks[0].params > 2 * networks[1].params
    assert 4e5 < networks[1].params <= 5e5
    assert 0.5e5 < memory_of(networks[2]) <= 1e5 < memory_of(networks[0])
    with pytest.raises(InfeasibleError, match="no MobileNetV2 on 16x16 images is within"):
        widest(replace(params, limit=100.0))


def test_targets_of_different_batches_have_costs_of_their_own(digits, tmp_path):
    tables = {}
    for name, batch in (("one", 1), ("eight", 8)):
        ops = spaces.load("mini", batch=batch).operators
        rows = {op: Measurement(ms := 0.002 + op.macs * 1e-8, 0.01 * ms, 50, ms) for op in ops}
        setting = Setting(name, "far", runtime="none 0", batch=batch, transport="ssh")
        tables[name] = LatencyTable(setting, rows)
        tables[name].save(tmp_path / f"{name}.csv")
    names = {name: str(tmp_path / f"{name}.csv") for name in tables}
    texts = [*(f"{path}=60%" for path in names.values()), "memory=2MB"]
    plan = plan_search(
        budgets=parse_budgets(texts, None),
        space=spaces.load("mini"),
        data=digits,
        settings=SETTINGS,
        seed=0,
        folder=tmp_path / "run",
    )
    choices = tuple(plan.space.largest)
    network = plan.space.network(choices)
    assert network.batch == 1
    assert memory_of(network_at(network, 8)) <= 2e6
    summed = SearchRun(plan, plan.folder).summed
    attempt = attempt_of(plan.space, choices, summed)
    *outcomes, memory = budget_outcomes(plan.budgets, attempt, {})
    for (name, batch), outcome in zip((("one", 1), ("eight", 8)), outcomes, strict=True):
        expected = tables[name].predict(network_at(network, batch)).ms
        assert attempt.predicted[names[name]] == pytest.approx(expected, rel=1e-3)
        assert outcome.predicted == pytest.approx(expected, rel=1e-3)
    assert memory.predicted == memory_of(network_at(network, 8))
