"""The supernet: one path runs, and searching costs the memory of training one network."""

import pytest
import torch
from memory import saved_bytes
from planted import proxyless_g
from torch.nn import functional

from latency import candidate_latency
from latency.modules import NetworkModule
from search.budget import Budget
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet


@pytest.fixture
def supernet(toy_space):
    torch.manual_seed(0)
    return SuperNet(toy_space)


@pytest.fixture
def batch():
    return torch.randn(16, 3, 16, 16), torch.randint(0, 10, (16,))


def test_a_path_computes_what_the_network_of_its_choices_does(supernet, toy_space, batch):
    path = [1, 6, 4, 2]
    network = NetworkModule(toy_space.network(path).ops)
    candidates = [block[i] for block, i in zip(supernet.blocks, path, strict=True)]
    parts = [*supernet.stem, *candidates, *supernet.head]
    kept = [part for part in parts if not isinstance(part, torch.nn.Identity)]
    for ours, theirs in zip(network, kept, strict=True):
        ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(network(batch[0]), supernet(batch[0], path))


def test_a_weight_step_trains_the_sampled_path_alone(supernet, batch):
    functional.cross_entropy(supernet(batch[0], [0, 1, 2, 3]), batch[1]).backward()
    for block, choice in zip(supernet.blocks, [0, 1, 2, 3], strict=True):
        for position, candidate in enumerate(block):
            graded = [value.grad is not None for value in candidate.parameters()]
            assert all(graded) if position == choice else not any(graded)
    assert supernet.alpha.grad is None


def test_a_weight_step_saves_what_training_the_network_saves(supernet, toy_space, batch):
    path = [5, 5, 5, 5]
    network = NetworkModule(toy_space.network(path).ops)
    alone = saved_bytes(lambda: network(batch[0]), network)
    searched = saved_bytes(lambda: supernet(batch[0], path), supernet)
    assert alone > 100_000
    assert searched <= 1.02 * alone


@pytest.mark.parametrize(("binarisation", "bound"), [("two", 2.1), ("full", 2.1)])
def test_an_architecture_step_never_saves_the_activations_of_all_candidates(
    supernet, toy_table, toy_space, batch, generator, binarisation, bound
):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    strategy = proxyless_g(supernet, HardwareTerm([Budget("toy", 1.0, costs)]), binarisation)
    sampled, active = strategy._sample(generator)
    path = [int(row[i]) for row, i in zip(sampled, active, strict=True)]
    gates = torch.zeros(sampled.shape, requires_grad=True)
    network = NetworkModule(toy_space.network(path).ops)
    alone = saved_bytes(lambda: network(batch[0]), network)
    searched = saved_bytes(
        lambda: supernet.forward_gated(batch[0], gates, sampled, active), supernet
    )
    assert searched <= bound * alone
