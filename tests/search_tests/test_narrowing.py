"""A supernet for fewer candidates than it was trained with."""

import numpy as np
import pytest
import torch

from search import spaces
from search.budget import Budget, memory_of, size_costs, within_memory
from search.searcher import SupernetTraining
from search.settings import SearchSettings
from search.supernet.narrowing import kept_candidates, narrowed
from search.training.checkpoint import Checkpoint

SETTINGS = SearchSettings(
    warmup_steps=0,
    search_steps=4,
    arch_every=1,
    batch_size=16,
    arch_batch_size=16,
    train_batch_size=16,
)


def training_of(space, digits, seed) -> SupernetTraining:
    """The training of a supernet under a budget that all networks are within."""
    budget = Budget("macs", 1e9, size_costs(space, "macs"))
    return SupernetTraining(space, digits, [budget], SETTINGS, seed)


def trained(space, digits, folder):
    """A training of a space that is done, and its last state."""
    training = training_of(space, digits, seed=0)
    checkpoint = Checkpoint(folder / "search.pt", {})
    training.run(checkpoint, lambda report: None)
    return training, checkpoint.load()


def test_networks_of_the_kept_candidates_compute_what_they_did(digits, tmp_path):
    whole = spaces.load("mini")
    within = within_memory(whole, 0.6 * memory_of(whole.network(whole.largest)))
    kept = kept_candidates(within, whole)
    assert within.size < whole.size
    before, state = trained(whole, digits, tmp_path)
    after = training_of(within, digits, seed=1)
    after.take_over(narrowed(state, kept))
    choices = [len(block) - 1 for block in within.blocks]
    same = [numbers[i] for numbers, i in zip(kept, choices, strict=True)]
    assert within.network(choices).ops == whole.network(same).ops
    images, _ = digits.valid.evaluated(np.arange(8), whole.resolution)
    with torch.no_grad():
        nets = [net.eval() for net in (before.supernet, after.supernet)]
        scores = [net(images, path) for net, path in zip(nets, (same, choices), strict=True)]
    torch.testing.assert_close(*scores)


def test_probabilities_are_given_that_a_kept_candidate_is_taken(toy_space, digits, tmp_path):
    within = within_memory(toy_space, 0.7 * memory_of(toy_space.network(toy_space.largest)))
    kept = kept_candidates(within, toy_space)
    before, state = trained(toy_space, digits, tmp_path)
    after = training_of(within, digits, seed=1)
    after.take_over(narrowed(state, kept))
    for row, (block, numbers) in enumerate(zip(within.blocks, kept, strict=True)):
        theirs = before.supernet.probabilities[row, numbers]
        ours = after.supernet.probabilities[row, : len(block)]
        torch.testing.assert_close(ours, theirs / theirs.sum())
        kept_history = after.history[-1]["probabilities"][row]
        assert kept_history[: len(block)] == pytest.approx(ours.tolist(), abs=1e-6)
        assert not any(kept_history[len(block) :])
