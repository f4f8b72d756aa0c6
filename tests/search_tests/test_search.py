"""The search as a whole: resumed like unbroken, confirmed on the device, corrected by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from devices.card import Measuring
from devices.replay import ReplayDevice
from latency import Measurement, UsageError, candidate_latency
from search.budget import Budget
from search.confirmation import confirm, derive_confirmed, export, measure_on
from search.data import draw_batch
from search.derivation.knapsack import MostProbable, derive
from search.searcher import SupernetTraining
from search.settings import SearchSettings
from search.training.checkpoint import Checkpoint
from search.training.network_training import NetworkTraining
from search.training.optimizer import accuracy

SETTINGS = SearchSettings(
    warmup_steps=4, search_steps=8, arch_every=2, batch_size=16, arch_batch_size=16, train_steps=6
)


class BrokenOffError(Exception):
    """Stands for a kill."""


def _break_at(step):
    def on_step(report):
        if report.step == step:
            raise BrokenOffError

    return on_step


def _search(toy_space, digits, costs, folder, on_step=lambda report: None, settings=SETTINGS):
    training = SupernetTraining(toy_space, digits, [Budget("toy", 0.15, costs)], settings, seed=3)
    checkpoint = Checkpoint(folder / "search.pt", {"seed": 3}, every_seconds=0)
    training.run(checkpoint, on_step)
    return training


@pytest.mark.parametrize(
    "words",
    [
        {"binarisation": "two"},
        {"binarisation": "full"},
        {"strategy": "proxyless-r", "reinforce_networks": 3},
        {"strategy": "proxyless-r", "reinforce_networks": 3, "reward": "mul"},
    ],
)
@pytest.mark.parametrize("step", [2, 7, 11])
def test_a_resumed_search_ends_like_an_unbroken_one(
    toy_space, digits, costs, tmp_path, step, words
):
    settings = replace(SETTINGS, **words)
    whole = _search(toy_space, digits, costs, tmp_path / "a", settings=settings)
    with pytest.raises(BrokenOffError):
        _search(toy_space, digits, costs, tmp_path / "b", _break_at(step), settings)
    resumed = _search(toy_space, digits, costs, tmp_path / "b", settings=settings)
    assert resumed.step == whole.step == 12
    assert resumed.history == whole.history
    assert len(whole.history) == 4
    for (name, ours), theirs in zip(
        resumed.supernet.state_dict().items(), whole.supernet.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_resumed_training_ends_like_an_unbroken_one(toy_space, digits, tmp_path):
    network = toy_space.network([0, 6, 1, 2])

    def train(folder, on_step=lambda report: None):
        training = NetworkTraining(network, digits, SETTINGS, seed=0)
        training.run(Checkpoint(folder / "train.pt", {}, every_seconds=0), on_step)
        return training.module.state_dict()

    whole = train(tmp_path / "a")
    with pytest.raises(BrokenOffError):
        train(tmp_path / "b", _break_at(3))
    for (name, ours), theirs in zip(train(tmp_path / "b").items(), whole.values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_training_with_path_dropout_resumes_like_an_unbroken_one(toy_space, digits, tmp_path):
    network = toy_space.network([0, 0, 1, 2])  # blocks with a residual, which may be left out
    settings = replace(SETTINGS, path_dropout=0.3)

    def train(folder, settings, on_step=lambda report: None):
        training = NetworkTraining(network, digits, settings, seed=0)
        training.run(Checkpoint(folder / "train.pt", {}, every_seconds=0), on_step)
        return training.module.state_dict()

    whole = train(tmp_path / "a", settings)
    with pytest.raises(BrokenOffError):
        train(tmp_path / "b", settings, _break_at(4))
    for (name, ours), theirs in zip(
        train(tmp_path / "b", settings).items(), whole.values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    without = train(tmp_path / "c", SETTINGS)
    assert any(not torch.equal(without[name], whole[name]) for name in whole)


def test_another_seed_gives_another_search(toy_space, digits, costs, tmp_path):
    one = _search(toy_space, digits, costs, tmp_path / "a")
    other = SupernetTraining(toy_space, digits, [Budget("toy", 0.15, costs)], SETTINGS, seed=4)
    other.run(Checkpoint(tmp_path / "b.pt", {}), lambda report: None)
    assert not torch.equal(one.supernet.alpha, other.supernet.alpha)


@pytest.mark.parametrize("step", [2, 11])
def test_a_supernet_that_is_not_trained_to_its_end_is_not_taken_over(
    toy_space, digits, costs, tmp_path, step
):
    with pytest.raises(BrokenOffError):
        _search(toy_space, digits, costs, tmp_path, _break_at(step + 1))
    state = Checkpoint(tmp_path / "search.pt", {"seed": 3}).load()
    shorter = replace(SETTINGS, search_steps=2)
    other = SupernetTraining(toy_space, digits, [Budget("toy", 0.15, costs)], shorter, seed=4)
    with pytest.raises(UsageError, match=f"for {step} of 12 steps only; first `resume` its own"):
        other.take_over(state)
    done = _search(toy_space, digits, costs, tmp_path)
    other.take_over(Checkpoint(tmp_path / "search.pt", {"seed": 3}).load())
    assert other.history == done.history
    assert torch.equal(other.supernet.alpha, done.supernet.alpha)


def test_probabilities_are_told_and_kept_now_and_then_and_at_the_end(
    toy_space, digits, costs, tmp_path, monkeypatch
):
    monkeypatch.setattr("search.searcher._SNAPSHOTS", 2)
    settings, told = replace(SETTINGS, search_steps=11, arch_every=1), []
    training = _search(toy_space, digits, costs, tmp_path, told.append, settings)
    assert [one.step for one in told if one.probabilities is not None] == [5, 10, 15]
    kept = [one["step"] for one in training.history if "probabilities" in one]
    assert kept == [5, 10, 15]
    assert training.history[-1]["probabilities"] == training.supernet.probabilities.tolist()


def test_the_architecture_sees_validation_images_as_they_are_evaluated(toy_space, digits, costs):
    settings = replace(SETTINGS, arch_batch_size=len(digits.valid))
    training = SupernetTraining(toy_space, digits, [Budget("toy", 0.15, costs)], settings, seed=3)
    images, labels = training._arch_batches.at(0)
    expected, _ = digits.valid.evaluated(np.arange(len(labels)), toy_space.resolution)
    ours, theirs = (batch.flatten(1).double().sum(1).sort().values for batch in (images, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_a_checkpoint_of_other_words_is_refused(tmp_path):
    Checkpoint(tmp_path / "x.pt", {"seed": 1, "space": "mini"}).save({"step": 1})
    with pytest.raises(UsageError, match="a run with another seed"):
        Checkpoint(tmp_path / "x.pt", {"seed": 2, "space": "mini"}).load()


def test_training_learns_the_digits(toy_space, digits, tmp_path):
    settings = replace(SETTINGS, train_steps=150, train_batch_size=64)
    training = NetworkTraining(toy_space.network(toy_space.largest), digits, settings, 0)
    before = accuracy(training.module, digits.valid, 16)
    training.run(Checkpoint(tmp_path / "x.pt", {}), lambda report: None)
    assert before < 0.3
    assert accuracy(training.module, digits.valid, 16) > 0.85


def test_splits_share_no_image_and_batches_cover_an_epoch(digits):
    sizes = [len(digits.train), len(digits.valid), len(digits.test)]
    assert sum(sizes) == 1797
    labels = [draw_batch(digits.test, 36, step, (0, 0), 8)[1] for step in range(10)]
    assert torch.equal(
        torch.cat(labels).sort().values, torch.from_numpy(np.sort(digits.test.labels))
    )


def test_a_batch_is_a_function_of_its_step(digits):
    one, again = (draw_batch(digits.train, 8, 5, (1, 2), 32) for _ in range(2))
    assert torch.equal(one[0], again[0])
    other = draw_batch(digits.train, 8, 6, (1, 2), 32)
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.12])
def test_the_network_meets_its_budget_on_a_device_the_table_is_wrong_about(
    toy_table, toy_space, costs, factor
):
    """The device is slower or faster than the table by `factor`."""
    device = ReplayDevice(toy_table, factor=factor)
    generator = np.random.default_rng(0)
    utility = np.where(np.isnan(costs.matrix), -np.inf, generator.normal(size=costs.matrix.shape))
    budget_ms = factor * (costs.fastest_ms + costs.slowest_ms) / 2
    measure = measure_on(device, Measuring(), sleep=lambda seconds: None)
    budget = Budget("toy", budget_ms, costs)
    attempts = derive_confirmed(
        toy_space, MostProbable(utility, [costs]), [budget], {"toy": measure}
    )
    best = attempts[-1]
    assert best.measured["toy"].high_ms <= budget_ms
    assert best.measured["toy"].median_ms >= 0.9 * budget_ms
    assert best.corrections["toy"] == pytest.approx(factor, rel=0.02)
    if factor > 1:
        assert len(attempts) > 1


def test_where_nothing_meets_the_budget_the_fastest_comes_back(toy_table, toy_space, costs):
    device = ReplayDevice(toy_table, factor=2.0)
    budget_ms = 1.1 * costs.fastest_ms
    measure = measure_on(device, Measuring(), sleep=lambda seconds: None)
    choose = MostProbable(np.zeros(costs.matrix.shape), [costs])
    budget = Budget("toy", budget_ms, costs)
    attempts = derive_confirmed(toy_space, choose, [budget], {"toy": measure})
    assert attempts[-1].measured["toy"].high_ms > budget_ms
    assert attempts[-1].predicted["toy"] == pytest.approx(costs.fastest_ms)


def test_a_network_for_two_devices_meets_both_budgets_though_both_tables_are_wrong(
    toy_table, toy_space, costs
):
    """The second device is a third faster for the same operators, and both are slower than said."""
    generator = np.random.default_rng(1)
    utility = np.where(np.isnan(costs.matrix), -np.inf, generator.normal(size=costs.matrix.shape))
    half = (costs.fastest_ms + costs.slowest_ms) / 2
    budgets = [Budget("a", half, costs), Budget("b", 0.95 * half, costs)]
    measures = {
        name: measure_on(
            ReplayDevice(toy_table, factor=factor), Measuring(), sleep=lambda seconds: None
        )
        for name, factor in (("a", 1.08), ("b", 1.05))
    }
    choose = MostProbable(utility, [costs, costs])
    best = derive_confirmed(toy_space, choose, budgets, measures)[-1]
    assert best.meets(budgets)
    assert best.use(budgets) >= 0.9
    assert set(best.measured) == {"a", "b"}


@pytest.fixture
def at_odds(toy_table, toy_space, costs):
    """Budgets of two targets that one network alone is within, by a thousandth: what is fast on
    the one is slow on the other. Also what these take, as measured: `factor` times as long."""
    rows = {op: replace(row, median_ms=1e-3 / row.median_ms) for op, row in toy_table.rows.items()}
    table = replace(toy_table, rows=rows)
    others = candidate_latency(table, toy_space.blocks, toy_space.fixed)
    found = derive(-others.matrix, costs, 1.3 * costs.fastest_ms)
    budgets = [
        Budget(name, 1.001 * float(one.predict(found)[0]), one)
        for name, one in (("a", costs), ("b", others))
    ]

    def measures(factor):
        def by(table, factor):
            def measure(network):
                ms = factor * table.predict(network).ms
                return Measurement(ms, 0.0, 50, ms)

            return measure

        return {"a": by(toy_table, 1.0), "b": by(table, factor)}

    return budgets, measures


def test_budgets_that_leave_no_room_under_them_are_used_to_the_full(toy_space, costs, at_odds):
    budgets, measures = at_odds
    choose = MostProbable(np.zeros(costs.matrix.shape), [one.costs for one in budgets])
    with pytest.raises(UsageError):
        choose([0.975 * one.limit for one in budgets])
    best = derive_confirmed(toy_space, choose, budgets, measures(1.0))[-1]
    assert best.meets(budgets)


@pytest.mark.parametrize("corrections", [None, {"b": 1.2}])
def test_where_nothing_meets_two_budgets_the_nearest_comes_back(
    toy_space, costs, at_odds, corrections
):
    budgets, measures = at_odds
    choose = MostProbable(np.zeros(costs.matrix.shape), [one.costs for one in budgets])
    best = derive_confirmed(toy_space, choose, budgets, measures(1.2), corrections)[-1]
    assert not best.meets(budgets)
    assert best.use(budgets) <= 1.2 * 1.001 * 1.025


def test_a_budget_that_is_not_measured_is_never_eased(toy_space, costs, at_odds):
    budgets, measures = at_odds
    choose = MostProbable(np.zeros(costs.matrix.shape), [one.costs for one in budgets])
    budgets = [budgets[0], replace(budgets[1], limit=0.5 * budgets[1].costs.fastest_ms)]
    with pytest.raises(UsageError, match="within the other budgets"):
        derive_confirmed(toy_space, choose, budgets, {"a": measures(1.0)["a"]})


def test_the_exported_model_is_measured_as_the_network_is(toy_table, toy_space, digits):
    network = toy_space.network([0, 6, 1, 2])
    training = NetworkTraining(network, digits, SETTINGS, seed=0)
    model = export(network, training.module)
    device = ReplayDevice(toy_table)
    options = {"measuring": Measuring(), "sleep": lambda seconds: None}
    both = [confirm(device, network, model, 1e9, **options), measure_on(device, **options)(network)]
    for measured in both:
        assert measured.median_ms == pytest.approx(toy_table.predict(network).ms, rel=0.01)


class SlowAtFirst(ReplayDevice):
    """A device whose first sessions are twice as slow."""

    slow_sessions = 0

    def open_session(self):
        self._factor = 2.0 if self.slow_sessions > 0 else 1.0
        self.slow_sessions -= 1
        return super().open_session()


@pytest.mark.parametrize(("slow_sessions", "meets"), [(0, True), (6, True), (100, False)])
def test_a_network_over_budget_is_given_time_for_the_machine_to_recover(
    toy_table, toy_space, slow_sessions, meets
):
    network = toy_space.network([0, 6, 1, 2])
    budget_ms = 1.05 * toy_table.predict(network).ms
    device = SlowAtFirst(toy_table)
    device.slow_sessions = slow_sessions
    waited = []
    measured = confirm(device, network, b"model", budget_ms, Measuring(), sleep=waited.append)
    assert (measured.high_ms <= budget_ms) == meets
    assert (sum(waited) > 10) == (slow_sessions > 0)
