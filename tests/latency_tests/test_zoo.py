"""Published networks, against their published counts and their authors' configurations."""

import json
from pathlib import Path

import pytest

from latency import SpecError, UsageError, zoo

CONFIGS = Path(__file__).parents[2].parent / "shared" / "data" / "zoo"


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
@pytest.mark.parametrize("name", [name for name in zoo.known() if name.startswith("proxyless")])
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


def test_resolution_and_batch_are_the_users():
    network = zoo.load("mobilenet_v2", resolution=160, batch=8)
    assert network.input_shape == (160, 160, 3)
    assert {op.batch for op in network.ops} == {8}
    assert network.params == zoo.load("mobilenet_v2").params


def test_an_unknown_network_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'proxyless_cpu'"):
        zoo.load("proxyles_cpu")


@pytest.mark.parametrize(
    "text", ["32 | 3/1 | 1280 | 1000", "32 | 3/1/16 | 1280", "a | 3/1/16 | 8 | 9"]
)
def test_a_description_that_is_none_is_refused(text):
    with pytest.raises(SpecError):
        zoo.expand("x", text)
