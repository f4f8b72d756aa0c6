"""Path dropout: what is left out, how often, and that nothing else changes."""

import pytest
import torch

from latency import NetworkSpec, OpSpec
from latency.modules import NetworkModule, OperatorModule
from search.data import load_dataset
from search.settings import SearchSettings
from search.training.compute import Compute
from search.training.distributed import Ranks
from search.training.network_training import NetworkTraining
from search.training.path_dropout import path_dropout, scheduled_rate

RESIDUAL = OpSpec("mbconv", 4, 4, 4, 4, 3, 1, 2, "relu")
TREE = OpSpec("tree", 4, 4, 4, 4, 3, 1, 0.5, "relu", tree="(i(s3i)i(im3))")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("op", [RESIDUAL, TREE], ids=lambda op: op.kind)
def test_a_block_is_its_shortcut_where_its_residual_is_left_out(op):
    module, x = OperatorModule(op), torch.randn(512, 4, 4, 4)
    with torch.no_grad(), path_dropout(module, 0.3, _generator()):
        output = module(x)
    left_out = (output == x).flatten(1).all(1).double().mean()
    assert float(left_out) == pytest.approx(0.3, abs=0.06)  # 3 standard deviations


def test_what_is_kept_makes_up_for_what_is_left_out():
    module, x = OperatorModule(RESIDUAL), torch.randn(1, 4, 4, 4).expand(4096, -1, -1, -1)
    with torch.no_grad():
        plain = module(x)
        with path_dropout(module, 0.25, _generator()):
            dropped = module(x)
    torch.testing.assert_close(dropped.mean(0), plain.mean(0), rtol=0.1, atol=0.1)
    kept = (dropped != x).flatten(1).any(1)
    torch.testing.assert_close((dropped - x)[kept], ((plain - x) / 0.75)[kept])


def test_branches_of_a_tree_are_left_out_one_by_one():
    """Behind the sums of the tree's nodes, some samples lack a branch of a node, others not."""
    module, seen = OperatorModule(TREE), []
    module.layers["sum0_1"].register_forward_hook(lambda layer, inputs, output: seen.append(inputs))
    with torch.no_grad(), path_dropout(module, 0.4, _generator()):
        module(torch.randn(256, 4, 4, 4))
    lacking = [(x == 0).flatten(1).all(1) for x in seen[0]]
    assert len({tuple(pair) for pair in torch.stack(lacking, 1).tolist()}) == 4


def test_an_evaluated_network_lacks_nothing():
    module, x = NetworkModule((RESIDUAL, TREE)).eval(), torch.randn(8, 4, 4, 4)
    expected = module(x)
    with path_dropout(module, 0.4, _generator()):
        torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


def test_nothing_is_left_out_any_more_afterwards():
    module, x = OperatorModule(RESIDUAL), torch.randn(64, 4, 4, 4)
    expected = module(x)
    with path_dropout(module, 0.4, _generator()):
        assert not torch.equal(module(x), expected)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


def test_the_same_generator_leaves_out_the_same():
    module, x = OperatorModule(TREE), torch.randn(64, 4, 4, 4)
    outputs = []
    for seed in (1, 1, 2):
        with torch.no_grad(), path_dropout(module, 0.4, _generator(seed)):
            outputs.append(module(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def _left_out(ranks, images):
    """Which of the images lack which residual in the last step of a process's training."""
    network = NetworkSpec.of("residuals", (RESIDUAL,) * 2)
    settings = SearchSettings(train_steps=2, path_dropout=0.4, norm_batch_size=4)
    compute = Compute(ranks=ranks, norm_batch_size=4)  # norms that ask no other process
    training = NetworkTraining(network, load_dataset("digits"), settings, 0, compute)
    training.step, seen = 1, []

    def look(block, inputs, output):
        seen.append((output == inputs[0]).flatten(1).all(1))

    for block in training.module:
        block.register_forward_hook(look)
    with torch.no_grad(), training._path_dropout():
        training.module(images)
    return torch.stack(seen)


def test_two_processes_leave_out_of_their_parts_what_one_does_of_the_batch():
    images = torch.randn(64, 4, 4, 4)
    alone = _left_out(Ranks(), images)
    parts = [_left_out(Ranks(rank, 2), images[32 * rank :][:32]) for rank in (0, 1)]
    assert torch.equal(torch.cat(parts, 1), alone)
    assert not torch.equal(parts[0], parts[1])


def test_later_blocks_lose_more_and_all_of_them_the_rate_on_average():
    module, x = NetworkModule((RESIDUAL,) * 3), torch.randn(2048, 4, 4, 4)
    shares = []

    def count(layer, inputs, output):
        shares.append(float((output == inputs[0]).flatten(1).all(1).double().mean()))

    for block in module:
        block.register_forward_hook(count)
    with torch.no_grad(), path_dropout(module, 0.3, _generator()):
        module(x)
    assert shares == pytest.approx([0.15, 0.3, 0.45], abs=0.035)


def test_the_schedule_grows_from_nothing_to_the_rate():
    assert [scheduled_rate(0.3, step, 4) for step in range(4)] == pytest.approx([0, 0.1, 0.2, 0.3])
