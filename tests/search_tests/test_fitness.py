"""What scores a network with the weights of its supernet."""

import numpy as np
import pytest
import torch

from latency import LatError
from search import spaces
from search.data import load_dataset
from search.derivation.fitness import _with_batch_statistics, supernet_fitness
from search.supernet.supernet import SuperNet
from search.training.batch_norm import share_batch_norms
from search.training.optimizer import seeded

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


def scored_by(monkeypatch, forward):
    """Have the supernet's class scores computed by `forward`, which remembers its images."""
    seen = []

    def recorded(self, images, path):
        seen.append(images)
        return forward(images)

    monkeypatch.setattr(SuperNet, "forward", recorded)
    return seen


def test_large_images_are_scored_in_equal_parts_of_all_classes(supernet, monkeypatch):
    """Scores that are right for the classes below 5."""
    monkeypatch.setattr("search.derivation.fitness._PIXELS", 64 * 16**2)

    class Numbered(ClassByClass):
        def evaluated(self, index, resolution):
            _, labels = super().evaluated(index, resolution)
            return labels[:, None, None, None].expand(-1, 3, 16, 16).float(), labels

    def forward(images):
        labels = images[:, 0, 0, 0].long()
        return torch.eye(10)[torch.where(labels < 5, labels, 0)]

    seen = scored_by(monkeypatch, forward)
    right, loss = supernet_fitness(supernet, Numbered(), 16)([])
    assert [len(images) for images in seen] == [64] * 8
    for images in seen:
        assert set(np.bincount(images[:, 0, 0, 0].long(), minlength=10)) <= {6, 7}
    assert right == pytest.approx(0.5, abs=1 / 512)
    z = np.log(9 + np.e)
    assert loss == pytest.approx(right * (z - 1) + (1 - right) * z, rel=1e-5)


def test_small_images_are_scored_at_once_by_their_own_moments(supernet):
    valid, path = load_dataset("digits").valid, [1] * len(SPACE.blocks)
    right, loss = supernet_fitness(supernet, valid, 16)(path)
    images, labels = valid.evaluated(np.arange(len(valid)), 16)
    with torch.no_grad():
        scores = supernet(images, path)
    assert right == pytest.approx(float((scores.argmax(1) == labels).double().mean()))
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(scores, labels)))


def test_the_weights_are_not_there_twice(supernet):
    twin = _with_batch_statistics(supernet)
    for ours, theirs in zip(twin.parameters(), supernet.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()


def test_a_lack_of_memory_is_told_in_a_line(supernet, monkeypatch):
    def forward(images):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    scored_by(monkeypatch, forward)
    fitness = supernet_fitness(supernet, ClassByClass(), 16)
    with pytest.raises(
        LatError, match=r"out of memory when evaluating 512 images .* smaller space"
    ):
        fitness([])


@pytest.mark.parametrize(("world", "group"), [(1, 0), (2, 0), (1, 4)])
def test_norms_that_are_shared_in_training_score_with_batch_statistics_in_one_process(
    supernet, world, group
):
    valid, path = load_dataset("digits").valid, [1] * len(SPACE.blocks)
    expected = supernet_fitness(supernet, valid, 16)(path)
    share_batch_norms(supernet, world, group)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    assert supernet_fitness(supernet, valid, 16)(path) == expected
    after = supernet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
