"""The spaces, against what the paper says of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from latency import NetworkSpec, OpSpec, SpecError, UsageError
from search import spaces
from search.jobs.profiling import sample_networks
from search.space import SearchSpace


def test_proxyless_is_the_papers_space():
    space = spaces.load("proxyless")
    assert len(space.blocks) == 21
    firsts = [0, 4, 8, 12, 16, 20]
    assert [len(block) for block in space.blocks] == [6 if i in firsts else 7 for i in range(21)]
    assert [space.blocks[i][0].out_channels for i in firsts] == [24, 40, 80, 96, 192, 320]
    assert [space.blocks[i][0].stride for i in firsts] == [2, 2, 2, 1, 2, 1]
    assert {(op.kernel, op.expansion) for op in space.blocks[1] if op} == {
        (kernel, expansion) for kernel in (3, 5, 7) for expansion in (3, 6)
    }
    assert [op.key for op in space.fixed] == [
        "conv-224x224x3-32-k3-s2-relu6",
        "mbconv-112x112x32-16-k3-s1-relu6",
        "conv-7x7x320-1280-k1-s1-relu6",
        "pool-7x7x1280-1280-k7-s1",
        "linear-1x1x1280-1000-k1-s1",
    ]


ZOO = Path(__file__).parents[2].parent / "shared" / "data" / "zoo"


def _published(name: str) -> NetworkSpec:
    """A published specialised network, from its authors' configuration."""
    config = json.loads((ZOO / f"proxyless_{name}.config").read_text())
    mixed = config["feature_mix_layer"]["out_channels"]
    ops = [OpSpec("conv", 224, 224, 3, config["first_conv"]["out_channels"], 3, 2, 1, "relu6")]
    for block in config["blocks"]:
        conv = block["mobile_inverted_conv"]
        if conv["name"] == "ZeroLayer":
            continue
        height, width, channels = ops[-1].out_shape
        shape = (conv["kernel_size"], conv["stride"], conv["expand_ratio"])
        ops.append(OpSpec("mbconv", height, width, channels, conv["out_channels"], *shape, "relu6"))
    height, width, channels = ops[-1].out_shape
    ops.append(OpSpec("conv", height, width, channels, mixed, 1, activation="relu6"))
    ops.append(OpSpec("pool", height, width, mixed, mixed, height))
    ops.append(OpSpec("linear", 1, 1, mixed, 1000))
    return NetworkSpec.of(name, tuple(ops))


@pytest.mark.skipif(not ZOO.exists(), reason="the published networks are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "mega_macs", "mega_params"),
    [("mobile", 320, 4.1), ("cpu", 439, 4.4), ("gpu", 465, 7.1), ("mobile_14", 581, 6.9)],
)
def test_published_networks_have_their_published_counts(name, mega_macs, mega_params):
    network = _published(name)
    assert network.macs / 1e6 == pytest.approx(mega_macs, abs=0.5)
    assert network.params / 1e6 == pytest.approx(mega_params, abs=0.05)


def test_resolution_width_and_classes_are_the_users():
    space = spaces.load("proxyless", resolution=160, width=0.5, classes=10)
    network = space.network(space.largest)
    assert network.input_shape == (160, 160, 3)
    assert network.ops[-1].out_channels == 10
    assert network.ops[-1].in_channels == 1280
    assert [op.out_channels for op in network.ops[:3]] == [16, 8, 16]
    assert space.tag == "proxyless-w0.5@160"


def test_mini_has_eight_or_more_searchable_blocks_on_32x32_inputs():
    space = spaces.load("mini")
    assert len(space.blocks) >= 8
    assert space.resolution == 32
    kinds = {op.kind for op in space.operators}
    assert kinds == {op.kind for op in spaces.load("proxyless").operators}


@pytest.mark.parametrize("name", spaces.known())
def test_the_largest_network_has_the_most_macs(name, generator):
    space = spaces.load(name)
    macs = space.network(space.largest).macs
    assert all(space.network(c).macs <= macs for c in space.random_choices(50, generator))


def test_an_unknown_space_suggests_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'proxyless'"):
        spaces.load("proxyles")


def test_a_block_whose_candidates_differ_in_shape_is_refused(toy_space):
    mixed = (toy_space.blocks[0][0], toy_space.blocks[2][0])
    with pytest.raises(SpecError, match="output shapes differ"):
        SearchSpace("x", 16, 10, toy_space.stem, (mixed,), toy_space.head)


def test_light_choices_are_of_all_sizes():
    space = spaces.load("proxyless")
    draw = np.random.default_rng(0)
    rows = {name: getattr(space, f"{name}_choices")(200, draw) for name in ("random", "light")}
    least = [min(0 if op is None else op.macs for op in block) for block in space.blocks]
    sizes = {
        name: np.sort([space.network(row.tolist()).macs for row in found])
        for name, found in rows.items()
    }
    assert (rows["light"] >= 0).all()
    assert (rows["light"] < np.array(space.counts)).all()
    fixed = sum(op.macs for op in space.fixed)
    assert sizes["light"][5] < 1.2 * (fixed + sum(least)) < sizes["random"][0]
    assert sizes["light"][-20] > sizes["random"][20]
    assert sizes["light"][100] < sizes["random"][0]


def test_half_of_the_networks_for_calibration_are_of_all_sizes():
    one, other = sample_networks(spaces.load("proxyless"))
    slowest, fastest = (sorted(network.macs for network in part) for part in (other, one))
    assert sum(macs < slowest[0] for macs in fastest) >= 5
    assert sum(macs >= slowest[0] for macs in fastest) >= 7


def test_a_profile_measures_no_network_twice(toy_space):
    one, other = sample_networks(spaces.load("mini"))
    assert (len(one), len(other)) == (16, 12)
    assert len({network.ops for network in one + other}) == 28
    first, second, third, _ = toy_space.blocks
    blocks = (first[:2], second[-2:], third[:1])
    one, other = sample_networks(replace(toy_space, blocks=blocks))
    assert len({network.ops for network in one + other}) == len(one + other) == 4
    assert (len(one), len(other)) == (2, 2)
