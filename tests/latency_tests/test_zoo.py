"""Published networks, against their published counts and their authors' configurations."""

import json
from pathlib import Path

import pytest

from latency import UsageError, zoo
from latency.operators.trees import hidden_channels

CONFIGS = Path(__file__).parents[2].parent / "shared" / "data" / "zoo"


def _is_of_inverted_bottlenecks(name):
    return name.startswith("proxyless") and name != "proxyless_cifar"


@pytest.mark.parametrize(
    ("name", "mega_macs", "mega_params"),
    [
        ("mobilenet_v2", 300.8, 3.505),
        ("proxyless_mobile", 320, 4.1),
        ("proxyless_cpu", 439, 4.4),
        ("proxyless_gpu", 465, 7.1),
        ("proxyless_mobile_14", 581, 6.9),
        ("resnet18", 1814, 11.69),
        ("resnet34", 3664, 21.80),
        ("resnet50", 4089, 25.56),
        ("resnet101", 7801, 44.55),
        ("vgg11_bn", 7609, 132.87),
        ("vgg16_bn", 15470, 138.37),
        ("mobilenet_v1", 569, 4.23),
    ],
)
def test_networks_have_their_published_counts(name, mega_macs, mega_params):
    network = zoo.load(name)
    assert network.macs / 1e6 == pytest.approx(mega_macs, abs=0.5)
    assert network.params / 1e6 == pytest.approx(mega_params, abs=0.05)


@pytest.mark.skipif(not CONFIGS.exists(), reason="the configurations are not beside the checkout")
@pytest.mark.parametrize(
    "name", [name for name in zoo.known() if _is_of_inverted_bottlenecks(name)]
)
def test_blocks_are_those_of_the_authors_configuration(name):
    config = json.loads((CONFIGS / f"{name}.config").read_text())
    blocks = [block["mobile_inverted_conv"] for block in config["blocks"]]
    published = [
        (one["kernel_size"], one["expand_ratio"], one["out_channels"], one["stride"])
        for one in blocks
        if one["name"] != "ZeroLayer"
    ]
    ours = [op for op in zoo.load(name).ops if op.kind == "mbconv"]
    assert [(op.kernel, op.expansion, op.out_channels, op.stride) for op in ours] == published


def _tree(node):
    """A tree of the authors' configuration in our writing."""
    branches = zip(node["edges"], node["child_nodes"], strict=True)
    return f"({''.join(_edge(edge) + (_tree(child) if child else '') for edge, child in branches)})"


def _edge(layer):
    if layer["name"] == "IdentityLayer":
        return "i"
    if layer["name"] == "PoolingLayer":
        return f"{layer['pool_type'][0]}{layer['kernel_size']}"
    return f"{'sd'[layer['dilation'] - 1]}{layer['kernel_size']}"


@pytest.mark.skipif(not CONFIGS.exists(), reason="the configurations are not beside the checkout")
def test_the_cells_on_cifar_are_those_of_the_authors_configuration():
    config = json.loads((CONFIGS / "proxyless_cifar.config").read_text())
    published = [
        (
            block["in_bottle"]["in_channels"],
            block["in_bottle"]["out_channels"],
            block["out_bottle"]["out_channels"],
            block["cell"]["edges"][0]["stride"],
            block["cell"]["edges"][0]["groups"],
            _tree(block["cell"]["child_nodes"][0]),
        )
        for block in config["blocks"]
        if block["name"] == "ResidualTreeBlock"
    ]
    ops = [op for op in zoo.load("proxyless_cifar").ops if op.kind == "tree"]
    assert published == [
        (op.in_channels, hidden_channels(op), op.out_channels, op.stride, op.groups, op.tree)
        for op in ops
    ]


def test_the_network_on_cifar_has_the_counts_of_its_configuration_to_the_last_one():
    # 5.7 M parameters in the paper; both counted over the layers of the published configuration.
    network = zoo.load("proxyless_cifar")
    assert network.input_shape == (32, 32, 3)
    assert network.params == 5_731_530
    assert network.macs == 1_213_155_872


def test_resolution_and_batch_are_the_users():
    network = zoo.load("mobilenet_v2", resolution=160, batch=8)
    assert network.input_shape == (160, 160, 3)
    assert {op.batch for op in network.ops} == {8}
    assert network.params == zoo.load("mobilenet_v2").params


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'proxyless_cpu'"):
        zoo.load("proxyles_cpu")
