"""Published networks: their operators, without weights.

A network is written as `stem | blocks | features | classes`: the channels of the first 3x3
convolution (stride 2), inverted bottlenecks `kernel/expansion/channels` with `:2` for stride 2
and `*n` for n of them (the stride of the first alone), and the channels of the last convolution.
"""

import re

from latency.errors import SpecError, unknown_name
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import Network
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.zoo.graphs import NETWORKS, graph
from latency.zoo.pyramid_nets import TREES, tree_network

_NETWORKS = {
    "mobilenet_v2": (  # Sandler et al., CVPR 2018, table 2
        "32 | 3/1/16 3/6/24:2*2 3/6/32:2*3 3/6/64:2*4 3/6/96*3 3/6/160:2*3 3/6/320 | 1280 | 1000"
    ),
    "proxyless_mobile": (  # this and the following: Cai, Zhu & Han, ICLR 2019, as published
        "32 | 3/1/16 5/3/32:2 3/3/32 7/3/40:2 3/3/40 5/3/40*2 7/6/80:2 5/3/80*3 5/6/96 5/3/96*3 "
        "7/6/192:2 7/6/192 7/3/192*2 7/6/320 | 1280 | 1000"
    ),
    "proxyless_gpu": (
        "40 | 3/1/24 5/3/32:2 7/3/56:2 3/3/56 7/6/112:2 5/3/112 5/6/128 3/3/128 5/3/128 "
        "7/6/256:2 7/6/256*2 5/6/256 7/6/432 | 1728 | 1000"
    ),
    "proxyless_cpu": (
        "40 | 3/1/24 3/6/32:2 3/3/32*3 3/6/48:2 3/3/48*2 5/3/48 3/6/88:2 3/3/88 5/6/104 "
        "3/3/104*3 5/6/216:2 5/3/216*2 3/3/216 5/6/360 | 1432 | 1000"
    ),
    "proxyless_mobile_14": (
        "48 | 3/1/24 5/3/40:2 3/3/40 7/3/56:2 3/3/56 5/3/56*2 7/6/112:2 5/3/112*3 5/6/136 "
        "5/3/136*3 7/6/256:2 7/6/256 7/3/256*2 7/6/448 | 1792 | 1000"
    ),
}
_HUB = "Cai, Zhu & Han, ProxylessNAS, their page on PyTorch Hub"
PUBLISHED = {
    "mobilenet_v2": (72.0, "Sandler et al., CVPR 2018, table 4"),
    "proxyless_mobile": (74.6, _HUB),
    "proxyless_gpu": (75.1, _HUB),
    "proxyless_cpu": (75.3, _HUB),
    "proxyless_mobile_14": (76.7, _HUB),
}
"""Top-1 accuracy on ImageNet in %, as published, and where: nothing that we measured."""
_BLOCKS = re.compile(r"(\d+)/(\d+)/(\d+)(?::(\d+))?(?:\*(\d+))?")


def known() -> tuple[str, ...]:
    """Names of the published networks."""
    return (*_NETWORKS, *TREES, *NETWORKS)


def check(name: str) -> None:
    """Raise `UsageError`, which lists them, for the name of no published network."""
    if name not in known():
        raise unknown_name("network", name, known())


def load(
    name: str, resolution: int | None = None, batch: int = 1, fusion: Fusion = USUAL
) -> Network:
    """The published network `name` on `resolution` x `resolution` images (32 for CIFAR-10, 224 for
    ImageNet where it is None): a chain of operators if it consists of blocks that can be
    searched, otherwise the kernels that a runtime with the rules `fusion` makes of it. `UsageError`
    for unknown names.

    >>> load("mobilenet_v2").macs
    300774272
    """
    check(name)
    if name in TREES:
        return tree_network(name, TREES[name], resolution or 32, batch)
    resolution = resolution or 224
    if name in NETWORKS:
        return graph(name, resolution, batch, fusion)
    return expand(name, _NETWORKS[name], resolution, batch)


def expand(name: str, text: str, resolution: int = 224, batch: int = 1) -> NetworkSpec:
    """The network that `text` describes in the format of this module; `SpecError` for others."""
    try:
        stem, blocks, features, classes = text.split("|")
        ops = [_conv((resolution, resolution, 3), int(stem), 3, 2, batch)]
        for text in blocks.split():
            ops += _blocks(ops[-1].out_shape, text, batch)
        ops.append(_conv(ops[-1].out_shape, int(features), 1, 1, batch))
        height, width, channels = ops[-1].out_shape
        ops.append(OpSpec("pool", height, width, channels, channels, height, batch=batch))
        ops.append(OpSpec("linear", 1, 1, channels, int(classes), batch=batch))
    except ValueError as error:
        raise SpecError(f"network '{name}': {error}") from None
    return NetworkSpec.of(name, tuple(ops))


def _conv(
    shape: tuple[int, int, int], channels: int, kernel: int, stride: int, batch: int
) -> OpSpec:
    return OpSpec("conv", *shape, channels, kernel, stride, activation="relu6", batch=batch)


def _blocks(shape: tuple[int, int, int], text: str, batch: int) -> list[OpSpec]:
    """The blocks of a text such as `3/6/24:2*2`."""
    parts = _BLOCKS.fullmatch(text)
    if parts is None:
        raise SpecError(f"'{text}' is not a block such as 3/6/24:2*2")
    kernel, expansion, channels, stride, count = (int(part or 1) for part in parts.groups())
    ops: list[OpSpec] = []
    for position in range(count):
        step = stride if position == 0 else 1
        sizes = (*shape, channels, kernel, step, expansion, "relu6")
        ops.append(OpSpec("mbconv", *sizes, batch=batch))
        shape = ops[-1].out_shape
    return ops
