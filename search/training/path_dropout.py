"""Path dropout: branches of a network are left out at random while it is trained.

A branch that is added to others is zero with the probability `rate`, for each sample anew, and
otherwise multiplied by 1 / (1 - rate), so that nothing changes when it is evaluated or deployed
(Larsson et al., FractalNet, ICLR 2017; Huang et al., stochastic depth, ECCV 2016). Operators have
rates that grow linearly with their position, and are `rate` on average, as on CIFAR-10 in
ProxylessNAS (Cai, Zhu & Han, ICLR 2019).

Which branches these are, the layers know (`Layer.droppable`): residuals, and what the nodes of a
tree add up.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latency.errors import UsageError
from latency.modules import LayerModule, OperatorModule
from search.training.distributed import ALONE, Ranks

_HALF = 0.5


def scheduled_rate(rate: float, step: int, total_steps: int) -> float:
    """The rate at `step`: from zero it grows linearly to `rate` (Zoph et al., ScheduledDropPath,
    CVPR 2018)."""
    return rate * step / max(1, total_steps - 1)


@contextmanager
def path_dropout(
    module: nn.Module, rate: float, generator: torch.Generator, ranks: Ranks = ALONE
) -> Iterator[None]:
    """Leave branches of `module`, a network or a supernet in training mode, out inside of this
    context. The draws come from `generator`, on its device, which is the same on all `ranks`: each
    makes those of the whole batch, and takes its part's.

    The last operator has nearly twice the `rate`; so `UsageError` where it is not below 0.5.
    """
    if not 0 <= rate < _HALF:
        raise UsageError(f"path dropout of {rate:g}: a rate from 0 to below {_HALF} is wanted")
    blocks = _droppable_layers(module) if rate else []
    handles = [
        layer.register_forward_pre_hook(
            _Drop(2 * rate * position / (len(blocks) + 1), layer.layer.droppable, generator, ranks)
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
    """Layers with branches that may be left out, operator by operator."""
    operators = [part for part in module.modules() if isinstance(part, OperatorModule)]
    layers = [
        [
            layer
            for layer in operator.layers.values()
            if isinstance(layer, LayerModule) and layer.layer.droppable
        ]
        for operator in operators
    ]
    return [some for some in layers if some]


class _Drop:
    """Replaces the first inputs of a layer."""

    def __init__(self, rate: float, count: int, generator: torch.Generator, ranks: Ranks) -> None:
        self.rate, self.count = rate, count
        self.generator, self.ranks = generator, ranks

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not layer.training:
            return inputs
        return (*map(self._dropped, inputs[: self.count]), *inputs[self.count :])

    def _dropped(self, x: Tensor) -> Tensor:
        shape = self.ranks.world, len(x)
        draws = torch.rand(shape, generator=self.generator, device=self.generator.device)
        kept = (draws[self.ranks.rank] >= self.rate).to(x) / (1 - self.rate)
        return x * kept[:, None, None, None]
