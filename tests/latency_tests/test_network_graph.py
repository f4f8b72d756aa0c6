"""A network of operators, and the ONNX file of it: one set of kernels."""

import pytest

from devices.export.onnx_model import onnx_model, random_weights
from latency import NetworkSpec, OpSpec, SpecError, zoo
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import kernels_of
from latency.graphs.network_graph import network_kernels
from latency.graphs.reader import parse_graph

FUSING = Fusion(
    frozenset(["conv+relu", "conv+relu6", "conv+norm", "conv+h_swish", "conv+add"]),
    frozenset(["conv", "conv_add", "pool", "max_pool"]),
    frozenset(["add", "activation"]),
    8,
)
TREE = "tree-32x32x16-72-k3-s1-e0.25-relu-g2-(i(s7(d3i)m3(s7m3))i(s5(s5s5)d3(s7s7)))"
CHAINS = {
    "mobile": (
        OpSpec("conv", 32, 32, 3, 16, 3, 2, activation="h_swish"),
        OpSpec("mbconv", 16, 16, 16, 24, 5, 2, 4, "silu", 0.25),
        OpSpec("mbconv", 8, 8, 24, 24, 3, 1, 6, "relu6"),
        OpSpec("conv", 8, 8, 24, 48, 3, activation="gelu", groups=2, dilation=2),
        OpSpec("pool", 8, 8, 48, 48, 8),
        OpSpec("linear", 1, 1, 48, 10, activation="sigmoid"),
    ),
    "of a batch": (
        OpSpec("conv", 15, 15, 3, 16, 5, batch=4, activation="h_sigmoid"),
        OpSpec("max_pool", 15, 15, 16, 16, 3, 2, batch=4),
        OpSpec("conv_transpose", 8, 8, 16, 8, 3, 2, batch=4, activation="relu"),
        OpSpec("norm", 16, 16, 8, 8, batch=4),
        OpSpec("pool", 16, 16, 8, 8, 2, 2, batch=4),
    ),
    "tree": (
        OpSpec.parse(TREE),
        OpSpec("pool", 32, 32, 72, 72, 32),
        OpSpec("linear", 1, 1, 72, 10),
    ),
}


def of_file(network: NetworkSpec, fusion: Fusion):
    content = onnx_model(network.ops, random_weights(), network.name)
    return kernels_of(parse_graph(content, network.name), fusion)


@pytest.mark.parametrize("fusion", [USUAL, FUSING], ids=["usual rules", "fusing"])
@pytest.mark.parametrize("name", [*CHAINS, "proxyless_mobile", "mobilenet_v2"])
def test_the_file_of_a_network_has_the_same_kernels(name, fusion):
    network = NetworkSpec.of(name, CHAINS[name]) if name in CHAINS else zoo.load(name, 64)
    kernels = network_kernels(network, fusion)
    assert kernels.ops == of_file(network, fusion).ops
    assert kernels.macs == network.macs
    assert not kernels.warnings


def test_an_operator_that_is_in_no_chain_is_named():
    sums = NetworkSpec.of("sums", (OpSpec("add", 8, 8, 16, 16),))
    with pytest.raises(SpecError, match="add-8x8x16-16"):
        network_kernels(sums)
