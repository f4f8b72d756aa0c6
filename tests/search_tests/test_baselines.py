"""What a search is held against: random networks of equal latency, MobileNetV2 that fits."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from latency import CandidateLatency, NetworkSpec, UsageError, zoo
from search.baselines import mobilenet_v2, mobilenet_v2_within, random_within


def space_and_costs(toy_space, rows, fixed_ms=1.0):
    """A space of as many candidates a block as `rows` has latencies, and those."""
    blocks = [toy_space.blocks[0][:1] * len(row) for row in rows]
    width = max(map(len, rows))
    matrix = np.array([[*row, *[np.nan] * (width - len(row))] for row in rows])
    counts = np.array([len(row) for row in rows])
    return replace(toy_space, blocks=tuple(blocks)), CandidateLatency(fixed_ms, matrix, counts)


def test_random_networks_are_uniform_among_those_of_the_band(toy_space, generator):
    rows = [[0.1, 0.25, 0.31], [0.0, 0.5], [0.2, 0.21, 0.7, 0.45], [0.3, 0.33, 0.4]]
    space, costs = space_and_costs(toy_space, rows)
    everything = np.array(list(product(*(range(len(row)) for row in rows))))
    ms = costs.predict(everything)
    inside = {tuple(row) for row in everything[(ms >= 0.9 * 2.3) & (ms <= 2.3)]}
    drawn = random_within(space, costs, 2.3, 20000, generator, band=0.1)
    seen, times = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(row) for row in seen} == inside
    assert len(inside) > 10
    assert chisquare(times).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.98])
def test_random_networks_of_a_space_too_large_to_count_lie_in_the_band(toy_space, generator, share):
    space, costs = space_and_costs(toy_space, generator.uniform(0.1, 1.0, (21, 7)).tolist())
    budget = costs.fastest_ms + share * (costs.slowest_ms - costs.fastest_ms)
    drawn = random_within(space, costs, budget, 500, generator)
    ms = costs.predict(drawn)
    assert drawn.shape == (500, 21)
    assert ms.max() <= budget
    assert ms.min() >= 0.95 * budget
    assert len(np.unique(drawn, axis=0)) > 490


def test_networks_of_hundreds_of_blocks_are_drawn_though_no_float_counts_them(toy_space, generator):
    space, costs = space_and_costs(toy_space, generator.uniform(0.1, 1.0, (450, 7)).tolist())
    budget = costs.fastest_ms + 0.4 * (costs.slowest_ms - costs.fastest_ms)
    drawn = random_within(space, costs, budget, 20, generator)
    ms = costs.predict(drawn)
    assert ms.max() <= budget
    assert ms.min() >= 0.95 * budget
    assert len(np.unique(drawn, axis=0)) == 20


def test_a_band_without_networks_is_widened_downwards(toy_space, generator):
    space, costs = space_and_costs(toy_space, [[1.0, 4.0], [1.0, 4.0]], fixed_ms=0.0)
    assert set(map(tuple, random_within(space, costs, 7.9, 50, generator))) == {(0, 1), (1, 0)}
    assert random_within(space, costs, 2.0, 2, generator).tolist() == [[0, 0], [0, 0]]
    assert random_within(space, costs, 100.0, 2, generator).shape == (2, 2)
    with pytest.raises(UsageError, match=r"within 1\.90 ms: the space reaches from 2\.00 ms to"):
        random_within(space, costs, 1.9, 1, generator)


def test_near_ties_do_not_keep_the_draw_from_ending(toy_space, generator):
    rows = [[1.0, *(1.0 + 1e-6 * generator.random(6))]] * 21
    space, costs = space_and_costs(toy_space, rows)
    assert random_within(space, costs, costs.fastest_ms, 3, generator).tolist() == [[0] * 21] * 3


def made_up_ms(network: NetworkSpec) -> float:
    return 0.02 * len(network.ops) + network.macs * 1e-7


def test_mobilenet_v2_has_its_published_operators_and_counts():
    assert mobilenet_v2(1.0).ops == zoo.load("mobilenet_v2").ops
    wide = mobilenet_v2(1.4)  # Sandler et al., table 4: 585 M multiply-accumulates
    assert wide.macs / 1e6 == pytest.approx(585, rel=0.01)
    assert wide.ops[-1].in_channels == 1792
    assert mobilenet_v2(0.5).ops[-1].in_channels == 1280
    assert mobilenet_v2(1.0, 96, 7, batch=4).ops[-1].key == "linear-1x1x1280-7-k1-s1-b4"


@pytest.mark.parametrize("budget_ms", [3.0, 20.0, 60.0])
def test_mobilenet_v2_is_as_wide_as_the_budget_lets_it(budget_ms):
    network = mobilenet_v2_within(made_up_ms, budget_ms, 224, 1000)
    width = float(network.name.rpartition("-w")[2])
    assert network == mobilenet_v2(width)
    assert made_up_ms(network) <= budget_ms
    wider = (mobilenet_v2(width + 0.01 * more) for more in range(1, 40))
    following = next(other for other in wider if other.ops != network.ops)
    assert made_up_ms(following) > budget_ms


def test_small_images_are_shrunk_late_unless_the_budget_forbids_it():
    def strides(network):
        return [op.stride for op in network.ops if op.stride > 1]

    roomy = mobilenet_v2_within(made_up_ms, 10.0, 32, 10)
    assert strides(roomy) == [2, 2, 2]
    assert roomy.ops[-2].height == 4
    thinnest = [mobilenet_v2(0.05, 32, 10, unstrided=n) for n in (2, 1, 0)]
    for unstrided, network in zip((2, 1, 0), thinnest, strict=True):
        tight = mobilenet_v2_within(made_up_ms, made_up_ms(network), 32, 10)
        assert len(strides(tight)) == 5 - unstrided
    with pytest.raises(UsageError, match="no MobileNetV2 on 32x32 images is within"):
        mobilenet_v2_within(made_up_ms, 0.99 * made_up_ms(thinnest[-1]), 32, 10)


def test_few_networks_are_looked_at():
    asked = []
    mobilenet_v2_within(lambda n: asked.append(n.name) or made_up_ms(n), 20.0, 224, 1000)
    assert len(asked) <= 11
