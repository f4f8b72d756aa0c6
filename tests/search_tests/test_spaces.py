"""The spaces, against what the paper says of them."""

import pytest

from latency import SpecError, UsageError
from search import spaces
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


def test_a_network_of_proxyless_has_the_counts_of_the_published_proxyless_mobile():
    # The published Proxyless-Mobile is of the first-generation space (stage widths 32, 56, 112,
    # 128, 256, 432 at width 1.4 ...); MobileNetV2 at 3x3, expansion 6, with our head is a member
    # of neither. So count by hand: two blocks of one stage against the sum of their layers.
    space = spaces.load("proxyless")
    fastest = space.network([0, 6, 6, 6] * 5 + [0])
    assert fastest.macs == sum(layer.macs for op in fastest.ops for layer in op.layers)
    assert len(fastest.ops) == 11


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
