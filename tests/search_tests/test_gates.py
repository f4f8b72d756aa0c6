"""Binary gates and architecture steps, against dense autograd."""

import numpy as np
import pytest
import torch
from planted import proxyless_g
from torch.nn import functional

from latency import UsageError
from latency.expected import ExpectedLatency
from search.budget import Budget, size_costs
from search.strategies.hardware_loss import HardwareTerm
from search.strategies.penalties import AddLinear, Lagrangian, MulLog, make_penalty
from search.strategies.proxyless_g import keep_mass
from search.supernet.gates import gate_to_alpha_gradient, gated
from search.supernet.supernet import SuperNet


def test_gates_get_the_gradient_of_the_dense_sum():
    torch.manual_seed(0)
    layers = [torch.nn.Linear(5, 5).double() for _ in range(4)]
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    gates = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    sparse = gated(x, gates, layers, active=2)
    dense = sum(gate * layer(x) for gate, layer in zip(gates, layers, strict=True))
    torch.testing.assert_close(sparse, dense)
    weight = torch.randn(3, 5, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad((sparse.tanh() * weight).sum(), [x, gates]),
        torch.autograd.grad((dense.tanh() * weight).sum(), [x, gates]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_the_alpha_gradient_is_that_of_the_softmax():
    alpha = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    downstream = torch.randn(3, 6, dtype=torch.float64)
    probabilities = alpha.softmax(-1)
    (expected,) = torch.autograd.grad((probabilities * downstream).sum(), alpha)
    torch.testing.assert_close(gate_to_alpha_gradient(downstream, probabilities.detach()), expected)


def test_a_shift_of_the_sampled_paths_keeps_the_others_probability():
    before = torch.randn(2, 5, dtype=torch.float64)
    sampled = torch.tensor([[1, 3], [4, 0]])
    after = before.clone()
    after[0, 1] += 0.7
    after[1, 0] -= 1.1
    shifted = keep_mass(before, after, sampled)
    old, new = before.softmax(-1), shifted.softmax(-1)
    for row, unsampled in ((0, [0, 2, 4]), (1, [1, 2, 3])):
        torch.testing.assert_close(new[row, unsampled], old[row, unsampled])
    assert new[0, 1] / new[0, 3] == pytest.approx(float(old[0, 1] / old[0, 3] * np.exp(0.7)))


class Constant:
    """A penalty of a constant slope, for tests."""

    state: dict = {}  # noqa: RUF012

    def __init__(self, per_cost):
        self.per_cost = per_cost

    def slope(self, task_loss, expected):
        from search.strategies.penalties import Slope

        return Slope(1.0, self.per_cost)


@pytest.fixture
def supernet(toy_space):
    torch.manual_seed(0)
    net = SuperNet(toy_space)
    torch.nn.init.normal_(net.alpha, std=0.5)
    return net


@pytest.fixture
def expected_latency(costs):
    return ExpectedLatency(costs)


@pytest.fixture
def hardware(costs):
    """A hardware term of a constant slope."""

    def make(per_cost):
        term = HardwareTerm([Budget("toy", 1.0, costs)])
        term.penalties["toy"] = Constant(per_cost)
        return term

    return make


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))


@pytest.mark.parametrize("binarisation", ["two", "full"])
def test_the_sampled_gates_get_the_gradient_of_the_dense_supernet(
    supernet, hardware, batch, generator, binarisation
):
    images, labels = batch
    supernet.eval()  # batch norm's batch statistics would be those of other inputs
    strategy = proxyless_g(supernet, hardware(0), binarisation)
    sampled, active = strategy._sample(generator)
    _, gradient = strategy._task_gradient(images, labels, sampled, active)

    alpha = supernet.alpha.detach().clone().requires_grad_()
    x = supernet.stem(images)
    for row, block in enumerate(supernet.blocks):
        chosen = [i for i in sampled[row].tolist() if i >= 0]
        probabilities = alpha[row, chosen].softmax(0)
        hard = functional.one_hot(active[row], len(chosen)).float()
        gates = hard + probabilities - probabilities.detach()
        x = sum(gate * block[i](x) for gate, i in zip(gates, chosen, strict=True))
    loss = functional.cross_entropy(supernet.head(x), labels)
    (expected,) = torch.autograd.grad(loss, alpha)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_two_samples_two_different_paths_a_block(supernet, hardware, generator):
    strategy = proxyless_g(supernet, hardware(0), "two")
    for _ in range(30):
        sampled, active = strategy._sample(generator)
        assert (sampled[:, 0] != sampled[:, 1]).all()
        assert (sampled < torch.tensor(supernet.space.counts)[:, None]).all()
        assert ((active >= 0) & (active < 2)).all()


def test_without_a_penalty_two_leaves_the_unsampled_paths_alone(
    supernet, hardware, batch, generator
):
    strategy = proxyless_g(supernet, hardware(0), "two", 0.1)
    before = supernet.probabilities.detach().clone()
    state = generator.bit_generator.state
    sampled, _ = strategy._sample(generator)
    generator.bit_generator.state = state
    strategy.step(*batch, generator)
    after = supernet.probabilities.detach()
    moved = torch.zeros_like(before, dtype=torch.bool).scatter(1, sampled, True)
    torch.testing.assert_close(after[~moved], before[~moved])
    assert (after[moved] - before[moved]).abs().max() > 1e-3


def test_the_hardware_moves_every_path_towards_faster_ones(
    supernet, hardware, expected_latency, batch, generator
):
    strategy = proxyless_g(supernet, hardware(100), "two", 0.01)
    before = float(expected_latency(supernet.probabilities.double()).detach())
    for _ in range(20):
        strategy.step(*batch, generator)
    assert float(expected_latency(supernet.probabilities.double()).detach()) < 0.98 * before


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_the_multiplier_brings_the_expectation_to_the_budget(
    supernet, costs, batch, generator, share
):
    budget_ms = costs.fastest_ms + share * (costs.slowest_ms - costs.fastest_ms)
    hardware = HardwareTerm([Budget("toy", budget_ms, costs)])
    strategy = proxyless_g(supernet, hardware, "two", 0.03)
    seen = [strategy.step(*batch, generator).expected["toy"] for _ in range(400)]
    assert np.mean(seen[-50:]) <= 1.03 * budget_ms


@pytest.mark.parametrize("binding", ["toy", "params"])
def test_of_two_budgets_the_one_that_binds_is_approached(
    supernet, toy_space, costs, batch, generator, binding
):
    params = size_costs(toy_space, "params")
    budgets = []
    for name, of in (("toy", costs), ("params", params)):
        share = 0.3 if name == binding else 0.95
        limit = of.fastest_ms + share * (of.slowest_ms - of.fastest_ms)
        budgets.append(Budget(name, limit, of))
    strategy = proxyless_g(supernet, HardwareTerm(budgets), "two", 0.03)
    seen = [strategy.step(*batch, generator) for _ in range(400)][-50:]
    for budget in budgets:
        mean = np.mean([step.expected[budget.name] for step in seen])
        assert mean <= 1.03 * budget.limit
        pulled = max(step.multipliers[budget.name] for step in seen)
        assert (pulled > 0) == (budget.name == binding)


def test_padding_never_gets_probability(supernet, hardware, batch, generator):
    strategy = proxyless_g(supernet, hardware(1), "full", 0.1)
    strategy.step(*batch, generator)
    for row, count in zip(supernet.probabilities.detach(), supernet.space.counts, strict=True):
        assert (row[count:] == 0).all()
        assert float(row.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["add#linear", "mul#log"])
def test_published_penalties_have_the_slope_of_their_formula(name):
    budget_ms, task, e = 80.0, 2.1, 95.0
    penalty = make_penalty(name, budget_ms)

    def loss(task, e):
        if name == "add#linear":
            return task + 0.1 * (e - budget_ms) / budget_ms
        return 0.2 * task * (np.log(e) / np.log(budget_ms)) ** 0.3

    slope = penalty.slope(task, e)
    step = 1e-5
    assert slope.task == pytest.approx((loss(task + step, e) - loss(task, e)) / step, rel=1e-3)
    assert slope.per_cost == pytest.approx((loss(task, e + step) - loss(task, e)) / step, rel=1e-3)


def test_the_multiplier_rises_over_budget_and_falls_below():
    penalty = Lagrangian(10.0)
    slopes = [penalty.slope(1.0, 12.0).per_cost for _ in range(50)]
    assert slopes == sorted(slopes)
    assert slopes[-1] > slopes[0]
    for _ in range(500):
        last = penalty.slope(1.0, 8.0).per_cost
    assert last == 0


def test_penalties_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="over 1ms"):
        MulLog(0.5)
    assert AddLinear(0.5).slope(1, 1).per_cost == pytest.approx(0.2)
