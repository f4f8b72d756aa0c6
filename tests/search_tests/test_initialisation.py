"""Candidates of a block start from one set of weights."""

import torch

from latency.modules import OperatorModule
from latency.operators.spec import OpSpec
from search import spaces
from search.supernet.supernet import SuperNet, start_alike


def candidate(kernel: int, expansion: float) -> OperatorModule:
    shape = (8, 8, 4, 4, kernel, 1)
    return OperatorModule(OpSpec("mbconv", *shape, expansion=expansion, activation="relu6"))


def weights_of(module: OperatorModule) -> dict[str, torch.Tensor]:
    return {name: layer.core.weight for name, layer in module.layers.items() if name != "add"}


def test_the_smaller_has_the_first_channels_and_the_centre_of_the_kernel():
    small, large = candidate(3, 3), candidate(7, 6)
    start_alike([small, large])
    mine, theirs = weights_of(small), weights_of(large)
    parts = {
        "expand": theirs["expand"][:12],
        "depthwise": theirs["depthwise"][:12, :, 2:5, 2:5],
        "project": theirs["project"][:, :12],
    }
    for name, part in parts.items():
        assert torch.equal(mine[name], part), name


def test_the_largest_weights_stay_as_large_as_they_were():
    modules = [candidate(3, 6), candidate(5, 3)]  # neither holds the other
    before = [{name: w.norm() for name, w in weights_of(module).items()} for module in modules]
    start_alike(modules)
    after = [{name: w.norm() for name, w in weights_of(module).items()} for module in modules]
    for name, module in (("expand", 0), ("project", 0), ("depthwise", 1)):
        torch.testing.assert_close(after[module][name], before[module][name])


def test_candidates_of_a_supernet_compute_nearly_the_same():
    torch.manual_seed(0)
    supernet = SuperNet(spaces.load("mini"))
    x = torch.randn(4, 16, 16, 16)
    outputs = torch.stack([candidate(x).flatten() for candidate in supernet.blocks[0]])
    assert torch.corrcoef(outputs).min() > 0.15
