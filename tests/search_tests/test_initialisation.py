"""Candidates of a block start from one set of weights."""

import torch

from latency.modules import OperatorModule
from latency.ops import OpSpec
from search import spaces
from search.initialisation import start_alike
from search.supernet import SuperNet


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
        scale = mine[name].norm() / part.norm()
        torch.testing.assert_close(mine[name], part * scale, msg=name)


def test_weights_stay_as_large_as_they_were():
    modules = [candidate(3, 6), candidate(5, 3)]  # neither holds the other
    before = [{name: w.norm().item() for name, w in weights_of(m).items()} for m in modules]
    start_alike(modules)
    for norms, module in zip(before, modules, strict=True):
        for name, weight in weights_of(module).items():
            torch.testing.assert_close(weight.norm().item(), norms[name], rtol=1e-4, atol=0)


def test_candidates_of_a_supernet_compute_nearly_the_same():
    torch.manual_seed(0)
    supernet = SuperNet(spaces.load("mini"))
    x = torch.randn(4, 16, 16, 16)
    outputs = torch.stack([candidate(x).flatten() for candidate in supernet.blocks[0]])
    assert torch.corrcoef(outputs).min() > 0.15
