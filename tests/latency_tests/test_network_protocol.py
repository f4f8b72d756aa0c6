"""A chain of operators and a graph of kernels are read alike."""

import pytest

from latency import OpSpec, zoo
from latency.graphs.kernels import Network
from latency.graphs.network_graph import network_kernels


def counts(network: Network) -> tuple[str, int, int, int]:
    """What readers need of either; mypy checks that both have it."""
    return network.name, network.batch, network.macs, network.params


@pytest.mark.parametrize("batch", [1, 4])
def test_a_chain_and_the_kernels_made_of_it_have_the_same_counts(batch):
    chain = zoo.load("mobilenet_v2", 96, batch)
    graph = network_kernels(chain)
    assert counts(chain) == counts(graph)
    assert counts(graph)[1] == batch


def test_only_a_graph_has_kernels_and_its_parts_are_their_operators():
    chain = zoo.load("proxyless_cifar")
    assert (chain.kernels, chain.warnings) == ((), ())
    assert len(chain.parts) > len(chain.ops)  # cells, taken apart
    graph = zoo.load("resnet18")
    assert graph.parts == graph.ops == tuple(kernel.op for kernel in graph.kernels)
    assert all(isinstance(op, OpSpec) for op in graph.parts)
