"""What scores a network with the weights of its supernet."""

import numpy as np
import pytest
import torch

from latency import LatError
from search import spaces
from search.batch_norm import share_batch_norms
from search.data import load_dataset
from search.fitness import supernet_fitness
from search.supernet import SuperNet
from search.training import seeded

SPACE = spaces.load("mini", resolution=16, width=0.5)


@pytest.fixture
def supernet():
    with seeded(0):
        return SuperNet(SPACE)


class ClassByClass:
    """A split of ten classes, one after the other, that remembers what it was asked for; with
    broken files, of these alone."""

    def __init__(self, **broken):
        self.broken = broken

    def __len__(self):
        return 5000

    def evaluated(self, index, resolution):
        self.labels = torch.from_numpy(index[:0] if self.broken else index) // 500
        return torch.zeros(len(self.labels), 3, resolution, resolution), self.labels


def test_every_class_of_an_ordered_split_scores_alike(supernet):
    split = ClassByClass()
    supernet_fitness(supernet, split, 16)
    counts = np.bincount(split.labels.numpy(), minlength=10)
    assert counts.sum() == 512
    assert set(counts) <= {51, 52}


def test_images_that_cannot_be_read_score_nothing(supernet):
    with pytest.raises(LatError, match=r"none of 512 images .* first: cannot identify"):
        supernet_fitness(supernet, ClassByClass(first="cannot identify"), 16)


@pytest.mark.parametrize(("world", "group"), [(2, 0), (1, 4)])
def test_norms_that_are_shared_in_training_score_by_the_images_in_one_process(
    supernet, world, group
):
    valid, path = load_dataset("digits").valid, [1] * len(SPACE.blocks)
    expected = supernet_fitness(supernet, valid, 16)(path)
    share_batch_norms(supernet, world, group)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    assert supernet_fitness(supernet, valid, 16)(path) == expected
    after = supernet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
