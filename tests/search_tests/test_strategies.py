"""Strategies on problems whose optimum is known, and REINFORCE against its definition."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import PlantedProblem, PlantedSupernet

from latency import UsageError
from search.derivation.evolution import Evolution
from search.derivation.knapsack import derive
from search.settings import SearchSettings
from search.strategies.base import AlphaOptimizer
from search.strategies.hardware_loss import HardwareTerm
from search.strategies.proxyless_r import ProxylessR

QUICK = SearchSettings(
    search_steps=400, arch_every=1, arch_learning_rate=0.04, reinforce_networks=5
)


@pytest.mark.parametrize(
    ("words", "reach"),
    [
        ({"binarisation": "two"}, 0.96),
        ({"binarisation": "full"}, 0.96),
        ({"strategy": "proxyless-r"}, 0.93),
        ({"strategy": "proxyless-r", "reward": "mul"}, 0.85),
        ({"strategy": "proxyless-r", "reward": "log"}, 0.85),
    ],
)
def test_a_strategy_finds_what_was_planted_within_the_budget(words, reach):
    reached = []
    for seed in range(2):
        problem = PlantedProblem.random(seed)
        choices = problem.search(replace(QUICK, **words), seed)
        assert problem.budget.costs.predict(choices)[0] <= problem.budget.limit
        reached.append(problem.total(choices) / problem.optimum)
    assert np.mean(reached) >= reach


def test_evolution_finds_what_was_planted_at_every_limit():
    problem = PlantedProblem.random(0)
    costs = problem.budget.costs

    def fitness(choices):
        return problem.total(tuple(choices)), 0.0

    generator = np.random.default_rng(0)
    evolution = Evolution(np.zeros(costs.matrix.shape), [costs], fitness, generator)
    limits = np.linspace(costs.fastest_ms, costs.slowest_ms, 6)
    front = list(evolution.front(limits.tolist()))
    taken = costs.predict([scored.choices for scored in front])
    assert (taken <= limits + 1e-9).all()
    assert (taken >= 0.95 * limits).all()
    best = [problem.total(derive(problem.utility, costs, float(limit))) for limit in limits]
    assert all(scored.accuracy >= 0.95 * value for scored, value in zip(front, best, strict=True))


@pytest.mark.parametrize("seed", [0, 11, 17, 24])
def test_evolution_takes_the_fastest_network_where_the_limit_is_its_latency(seed):
    problem = PlantedProblem.random(seed)
    costs = problem.budget.costs

    def fitness(choices):
        return problem.total(tuple(choices)), 0.0

    words = fitness, np.random.default_rng(0)
    evolution = Evolution(np.zeros(costs.matrix.shape), [costs], *words, children=0)
    assert evolution([costs.fastest_ms]) == tuple(costs.matrix.argmin(1).tolist())


def test_the_policy_gradient_is_that_of_the_expected_reward():
    """The mean over all networks, weighted by their probability, is the gradient by definition."""
    problem = PlantedProblem.random(3, blocks=2, candidates=3)
    supernet = PlantedSupernet(problem.utility, 0.0)
    torch.nn.init.normal_(supernet.alpha)
    strategy = ProxylessR(supernet, HardwareTerm([problem.budget]), SearchSettings())
    networks = list(itertools.product(range(3), repeat=2))
    rewards = np.random.default_rng(0).random(len(networks))

    alpha = supernet.alpha.detach().double().requires_grad_()
    p = alpha.softmax(-1)
    chances = torch.stack([p[0, a] * p[1, b] for a, b in networks])
    (expected,) = torch.autograd.grad(-(chances * torch.tensor(rewards)).sum(), alpha)

    total = torch.zeros_like(expected)
    for path, reward, chance in zip(networks, rewards, chances.detach(), strict=True):
        strategy.baseline = 0.0
        total += chance * strategy._policy_gradient([path], np.array([reward]))
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-7)


class Still:
    """Keeps the gradient, and moves nothing."""

    def rate(self, gradient):
        self.gradient = gradient.clone()
        return torch.zeros_like(gradient)


@pytest.mark.parametrize("penalty", ["lagrangian", "mul#log"])
def test_the_policy_gradient_is_weighed_as_the_penalty_weighs_the_loss(penalty):
    problem = PlantedProblem.random(0)
    supernet = PlantedSupernet(problem.utility, problem.optimum)
    images, labels = torch.linspace(-1, 1, 64, dtype=torch.float64), torch.zeros(64).long()

    def gradient(hardware):
        strategy = ProxylessR(supernet, hardware, SearchSettings(reinforce_networks=4))
        strategy.optimizer, strategy.baseline = Still(), 0.1
        seen = strategy.step(images, labels, np.random.default_rng(0))
        return strategy.optimizer.gradient, seen.task_loss

    class Free(HardwareTerm):
        def step(self, probabilities, task_loss):
            seen = super().step(probabilities, task_loss)
            return replace(seen, gradient=torch.zeros_like(seen.gradient), task_weight=1.0)

    policy, loss = gradient(Free([problem.budget]))
    seen = HardwareTerm([problem.budget], penalty).step(supernet.probabilities, loss)
    total, _ = gradient(HardwareTerm([problem.budget], penalty))
    assert policy.abs().max() > 0
    assert (seen.task_weight < 0.3) == (penalty == "mul#log")
    torch.testing.assert_close(total, seen.task_weight * policy + seen.gradient)


@pytest.mark.parametrize("reward", ["mul", "log"])
def test_a_reward_that_has_the_latency_leaves_the_penalty_unused(reward):
    problem = PlantedProblem.random(0)
    supernet = PlantedSupernet(problem.utility, problem.optimum)
    hardware = HardwareTerm([replace(problem.budget, limit=problem.budget.costs.fastest_ms)])
    before = hardware.state
    strategy = ProxylessR(supernet, hardware, SearchSettings(reward=reward, reinforce_networks=2))
    images, labels = torch.zeros(8, dtype=torch.float64), torch.zeros(8).long()
    seen = strategy.step(images, labels, np.random.default_rng(0))
    assert seen.multipliers == {}
    assert seen.expected["planted"] > problem.budget.costs.fastest_ms
    assert hardware.state["planted"]["integral"] == before["planted"]["integral"] == 0


@pytest.mark.parametrize(("reward", "better"), [("mul", 1), ("log", 1), ("lagrangian", 0)])
def test_a_faster_network_of_equal_accuracy_is_worth_more_where_the_reward_has_the_latency(
    reward, better
):
    problem = PlantedProblem.random(0)
    supernet = PlantedSupernet(problem.utility, 0.0)
    strategy = ProxylessR(supernet, HardwareTerm([problem.budget]), SearchSettings(reward=reward))
    fast = problem.budget.costs.matrix.argmin(1).tolist()
    slow = problem.budget.costs.matrix.argmax(1).tolist()
    assert (strategy._reward(fast, 0.8) > strategy._reward(slow, 0.8)) == bool(better)


def test_an_unknown_strategy_is_named():
    with pytest.raises(UsageError, match="`strategy`: should be 'proxyless-g'"):
        replace(QUICK, strategy="magic")


def test_the_learning_rate_of_the_architecture_falls_to_zero_along_a_cosine():
    optimizer = AlphaOptimizer(torch.zeros(1, 2), learning_rate=0.1, total_steps=4)
    gradient = torch.ones(1, 2)
    steps = [float(optimizer.rate(gradient)[0, 0]) for _ in range(5)]
    shares = [(1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)]
    assert steps == pytest.approx([0.1 * share for share in shares] + [0.0], abs=1e-6)


def test_without_an_end_the_learning_rate_of_the_architecture_stays():
    optimizer = AlphaOptimizer(torch.zeros(1, 2), learning_rate=0.1)
    steps = [float(optimizer.rate(torch.ones(1, 2))[0, 0]) for _ in range(5)]
    assert steps == pytest.approx([0.1] * 5, abs=1e-6)
