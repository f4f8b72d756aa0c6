"""Published networks by name: their operators, without weights."""

from latency.errors import unknown_name
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import Kernel, KernelGraph, Network
from latency.operators.network import NetworkSpec
from latency.zoo.convolutional import CHAINS, GRAPHS, operators
from latency.zoo.pyramid_nets import PROXYLESS_CIFAR, tree_network

__all__ = ["PUBLISHED", "check", "known", "load"]

_HUB = "Cai, Zhu & Han, ProxylessNAS, their page on PyTorch Hub"
PUBLISHED = {
    "mobilenet_v2": (72.0, "Sandler et al., CVPR 2018, table 4"),
    "proxyless_mobile": (74.6, _HUB),
    "proxyless_gpu": (75.1, _HUB),
    "proxyless_cpu": (75.3, _HUB),
    "proxyless_mobile_14": (76.7, _HUB),
}
"""Published top-1 accuracy on ImageNet in %, not measured by us, and its source."""


def known() -> tuple[str, ...]:
    """Names of the published networks."""
    return (*CHAINS, PROXYLESS_CIFAR[0], *GRAPHS)


def check(name: str) -> None:
    """Raise `UsageError`, which lists the published networks, for an unknown name."""
    if name not in known():
        raise unknown_name("network", name, known())


def load(
    name: str, resolution: int | None = None, batch: int = 1, fusion: Fusion = USUAL
) -> Network:
    """The published network `name` on `resolution` x `resolution` images (by default 32 for
    CIFAR-10, 224 for ImageNet): a chain of operators if it consists of blocks that can be searched,
    otherwise the kernels of a runtime with the rules `fusion`. `UsageError` for unknown names.

    >>> load("mobilenet_v2").macs
    300774272
    """
    check(name)
    if name == PROXYLESS_CIFAR[0]:
        return tree_network(*PROXYLESS_CIFAR, resolution or 32, batch)
    resolution = resolution or 224
    if name in CHAINS:
        return NetworkSpec.of(name, operators(CHAINS[name], resolution, batch, "relu6"))
    ops = operators(GRAPHS[name], resolution, batch, "relu", fusion)
    return KernelGraph(name, tuple(Kernel(op, ()) for op in ops))
