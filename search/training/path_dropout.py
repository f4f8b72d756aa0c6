"""Path dropout: randomly dropping branches of a network during training.

A branch that is added to others is zeroed with probability `rate`, per sample, and otherwise
scaled by 1 / (1 - rate) (Larsson et al., FractalNet, ICLR 2017; Huang et al., stochastic depth,
ECCV 2016). The operators' rates grow linearly with their position and average to `rate`, as on
CIFAR-10 in ProxylessNAS (Cai, Zhu & Han, ICLR 2019).

The branches (`Layer.droppable`) are residuals, and the summands of a tree's nodes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from latency.modules import LayerModule, OperatorModule
from search.training.distributed import ALONE, Ranks


def scheduled_rate(rate: float, step: int, total_steps: int) -> float:
    """The rate at `step`: grows linearly from zero to `rate` (Zoph et al., ScheduledDropPath, CVPR
    2018)."""
    return rate * step / max(1, total_steps - 1)


@contextmanager
def path_dropout(
    module: nn.Module, rate: float, generator: torch.Generator, ranks: Ranks = ALONE
) -> Iterator[None]:
    """Drop branches of `module`, a network or a supernet in training mode, inside this context.
    `generator` has the same state on all `ranks`: each draws for the whole batch, and uses its own
    part.

    The last operator's rate is nearly twice `rate`, which must be less than 0.5.
    """
    blocks = _droppable_layers(module) if rate else []
    handles = [
        layer.register_forward_pre_hook(
            partial(
                _drop,
                rate=2 * rate * position / (len(blocks) + 1),
                count=layer.layer.droppable,
                generator=generator,
                ranks=ranks,
            )
        )
        for position, layers in enumerate(blocks, 1)
        for layer in layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _droppable_layers(module: nn.Module) -> list[list[LayerModule]]:
    """The layers with droppable branches, per operator that has some."""
    layers = [
        [
            layer
            for layer in operator.layers.values()
            if isinstance(layer, LayerModule) and layer.layer.droppable
        ]
        for operator in module.modules()
        if isinstance(operator, OperatorModule)
    ]
    return list(filter(None, layers))


def _drop(
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    rate: float,
    count: int,
    generator: torch.Generator,
    ranks: Ranks,
) -> tuple[Tensor, ...]:
    """A forward pre-hook that drops some samples of a layer's first `count` inputs."""
    if not layer.training:
        return inputs
    dropped = []
    for x in inputs[:count]:
        draws = torch.rand((ranks.world, len(x)), generator=generator, device=generator.device)
        kept = (draws[ranks.rank] >= rate).to(x) / (1 - rate)
        dropped.append(x * kept[:, None, None, None])
    return (*dropped, *inputs[count:])
