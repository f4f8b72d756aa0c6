"""Batch norms that go by other moments than those of the batch that they see."""

import pytest
import torch
from torch import nn

from search.training.batch_norm import GroupedBatchNorm, SyncedBatchNorm, share_batch_norms


@pytest.mark.parametrize(
    ("world", "group", "kind"), [(2, 0, SyncedBatchNorm), (1, 4, GroupedBatchNorm)]
)
def test_it_keeps_names_and_evaluates_like_the_one_it_replaces(world, group, kind):
    norm = nn.BatchNorm2d(3)
    norm(torch.randn(8, 3, 4, 4))
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(norm))
    before, x = dict(module.state_dict()), torch.randn(2, 3, 4, 4)
    expected = module.eval()(x)
    share_batch_norms(module, world, group)
    assert isinstance(module[1][0], kind)
    assert module.state_dict().keys() == before.keys()
    assert torch.equal(module.eval()(x), expected)


def test_a_group_is_normalised_as_if_it_were_alone():
    grouped, alone = GroupedBatchNorm(nn.BatchNorm2d(3), 2), nn.BatchNorm2d(3)
    x = torch.randn(6, 3, 5, 5).to(memory_format=torch.channels_last)
    y = grouped(x)
    for first in (0, 2, 4):
        torch.testing.assert_close(y[first : first + 2], alone(x[first : first + 2]))
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_running_moments_move_by_the_mean_of_the_groups():
    grouped = GroupedBatchNorm(nn.BatchNorm2d(2), 2)
    x = torch.randn(4, 2, 3, 3)
    grouped(x)
    means = torch.stack([part.mean((0, 2, 3)) for part in x.split(2)])
    variances = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in x.split(2)])
    torch.testing.assert_close(grouped.running_mean, 0.1 * means.mean(0))
    torch.testing.assert_close(grouped.running_var, 0.9 + 0.1 * variances.mean(0))
    assert grouped.num_batches_tracked == 1


def test_a_batch_that_does_not_fall_into_groups_is_one():
    grouped, alone = GroupedBatchNorm(nn.BatchNorm2d(3), 4), nn.BatchNorm2d(3)
    x = torch.randn(6, 3, 2, 2)
    assert torch.equal(grouped(x), alone(x))
