"""Predictions of small made-up devices, to the digit: what a formula is changed by shows here."""

from dataclasses import replace

import numpy as np
import pytest

from latency import LatencyTable, Measurement, OpSpec, Setting
from latency.graphs.kernels import Kernel, KernelGraph
from latency.predictors import gaussian_process
from latency.predictors.gaussian_process import log_likelihood
from latency.predictors.regression import fit
from latency.predictors.roofline import Roofline
from latency.tables.calibration import Calibration
from latency.transfer import few_shot
from latency.transfer.similarity import kernels, read

CONVOLUTIONS = [
    OpSpec("conv", side, side, inside, outside, kernel)
    for side in (8, 16)
    for inside in (8, 32)
    for outside in (16, 48)
    for kernel in (1, 3)
]


def _ms(op):
    return 0.01 + op.macs * 1e-7 + op.bytes * 2e-8


def _table(ops, cost=_ms, **parts):
    rows = {
        op: Measurement(cost(op) * (1 + 0.02 * np.sin(i)), 0.005 * cost(op), 50, 0.9 * cost(op))
        for i, op in enumerate(ops)
    }
    return LatencyTable(Setting("toy", "toy hardware"), rows, **parts)


@pytest.mark.parametrize(
    ("op", "ms", "low_ms", "high_ms", "nearest", "octaves"),
    [
        (OpSpec("conv", 12, 12, 16, 24, 3), 0.05974, 0.02033, 0.1755, 13, 1.230625),
        (OpSpec("conv", 8, 8, 16, 16, 1), 0.007227, 0.002467, 0.02117, 4, 1.0),
        (OpSpec("conv", 16, 16, 32, 64, 5), 1.29517, 0.5721, 2.932, 15, 0.845798),
    ],
)
def test_operators_beside_those_of_a_table(op, ms, low_ms, high_ms, nearest, octaves):
    model = fit(_table(CONVOLUTIONS))
    found = model.predict_op(op)
    assert found.ms == pytest.approx(ms, rel=2e-3)
    assert (found.low_ms, found.high_ms) == pytest.approx((low_ms, high_ms), rel=1e-2)
    assert model.nearest(op) == (CONVOLUTIONS[nearest], pytest.approx(octaves, rel=1e-6))


def test_a_family_without_rows_is_served_by_the_rest_or_else_the_largest():
    many = [OpSpec("conv", 8, 8, 8 * i, 8 * j, 1) for i in range(1, 7) for j in range(1, 8)]
    pools = [OpSpec("max_pool", side, side, 8, 8, 3) for side in range(4, 50)]
    model = fit(_table(many + pools))
    assert model.family_of(OpSpec("softmax", 4, 4, 8, 8)) is model.family_of(pools[0])
    assert model.family_of(many[0]) is not model.family_of(pools[0])
    few = [OpSpec("softmax", side, side, 8, 8) for side in range(2, 8)]
    model = fit(_table(many + pools + few))
    assert model.family_of(OpSpec("norm", 4, 4, 8, 8)) is model.family_of(few[0])


def test_an_operator_costs_inside_networks_what_its_nearest_neighbour_does():
    calibrations = {"a@8": Calibration(0.5), "b@8": Calibration(1.0, 0.001)}
    table = _table(CONVOLUTIONS, calibrations=calibrations)
    inside = {
        op: calibrations["a@8"].in_network_ms(op, table[op].median_ms)
        for op in CONVOLUTIONS
        if op.height == 8
    }
    model = fit(replace(table, in_network_ms=inside))
    alone = fit(_table(CONVOLUTIONS))
    for side, factor in ((8, 0.5), (16, 1.0)):
        op = OpSpec("conv", side, side, 16, 32, 3)
        assert model.predict_op(op).ms == pytest.approx(factor * alone.predict_op(op).ms)


def test_depthwise_kernels_of_a_size_cost_more_only_where_the_device_is_slow_at_it():
    ops = [
        OpSpec("conv", side, side, channels, channels, kernel, groups=channels)
        for side in (8, 16, 32)
        for channels in (16, 64)
        for kernel in (3, 5, 7)
    ]
    even = np.array([_ms(op) for op in ops])
    slow = np.array([_ms(op) * (20 if op.kernel == 7 else 1) for op in ops])
    assert not Roofline.fit(ops, even).sized
    line = Roofline.fit(ops, slow)
    assert line.sized
    fives, sevens = (line.log_ms([op for op in ops if op.kernel == k]) for k in (5, 7))
    assert (sevens - fives > np.log(5)).all()


@pytest.mark.parametrize("lengths", [[2.0], [1.0, 2.0], [1.0, 2.0, 5.0]])
def test_a_likelihood_has_a_slope_for_each_length(lengths):
    generator = np.random.default_rng(3)
    places, noise = generator.uniform(0, 8, (20, len(lengths))), np.full(20, 1e-3)
    values = np.sin(places[:, 0])
    bounds = ((1e-4, 10.0), (0.3, 100.0), (1e-5, 0.5))
    kernel = gaussian_process.Kernel.of(0.3, np.array(lengths), 2e-3, bounds)
    slope = log_likelihood(kernel, places, values, noise)[1]
    for i in range(len(kernel.theta)):
        step = 1e-5 * (np.arange(len(kernel.theta)) == i)
        above, below = (
            log_likelihood(replace(kernel, theta=kernel.theta + s), places, values, noise)[0]
            for s in (step, -step)
        )
        assert slope[i] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-4)


ONE_HOTS = np.eye(3)[[[a, b, c] for a in range(3) for b in range(3) for c in range(3)]].reshape(
    27, 9
)
FEATURES = np.hstack([ONE_HOTS, (ONE_HOTS @ np.arange(1.0, 10))[:, None] ** 2])
COSTS = np.array([[1, 2, 3, 1, 3, 5, 2, 2, 4], [2, 1, 4, 3, 1, 3, 1, 5, 2]]).T / 4
SOURCES = ONE_HOTS @ COSTS + 0.5
TARGET = ONE_HOTS @ (0.5 * COSTS[:, 0] + 0.3 * COSTS[:, 1] + 0.1) + 0.2
INDEX = np.array([21, 25, 1, 17, 13, 20])


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (FEATURES, [1.53845701, 1.74992124, 1.80497114, 1.61613374, 1.84951004, 1.89260700]),
        (None, [1.49744432, 1.74084739, 1.80214231, 1.57274422, 1.87240433, 1.87418568]),
    ],
    ids=["with features", "without"],
)
def test_networks_of_a_new_device_from_six_of_them(features, expected):
    found = few_shot(SOURCES, INDEX, TARGET[INDEX], features)
    assert found[:6] == pytest.approx(expected, rel=1e-6)
    assert found == pytest.approx(TARGET, rel=0.15)


def test_a_network_that_was_measured_wrong_is_pulled_in():
    wrong = TARGET[INDEX].copy()
    wrong[0] *= 20
    found = few_shot(SOURCES, INDEX, wrong, FEATURES)
    assert found[:3] == pytest.approx([4.56746396, 1.74826243, 2.14124526], rel=1e-6)


def test_a_network_that_reads_zero_on_a_source_is_pulled_in():
    sources = SOURCES.copy()
    sources[3, 0] = 0
    found = few_shot(sources, INDEX, TARGET[INDEX], FEATURES)
    assert found[:3] == pytest.approx([1.53868555, 1.75038831, 1.80403089], rel=1e-6)


def test_totals_are_kernels_where_there_are_no_choices():
    totals = np.arange(1.0, 28)[:, None] ** 2
    names = kernels(read(SOURCES, totals)).names
    assert names == (
        *("source first", "source", "source roots", "totals"),
        *(f"{name}@{width}" for name in ("source", "totals") for width in (0.7, 1.5, 3.0)),
    )
    assert "totals" not in kernels(read(SOURCES, None)).names
    assert "totals" not in kernels(read(SOURCES, ONE_HOTS)).names


def test_a_source_that_is_left_out_leaves_the_others_as_they_are():
    known = read(np.hstack([SOURCES, SOURCES[:, :1] ** 2]), FEATURES)
    left = known.without(0)
    assert left.logs == pytest.approx(known.logs[:, 1:])
    assert left.smooth == pytest.approx(known.smooth[:, 1:])
    assert "smooth" in kernels(left).names
    some = known.rows(np.array([4, 2]))
    assert some.smooth == pytest.approx(known.smooth[[4, 2]])
    assert some.totals == pytest.approx(known.totals[[4, 2]])


def test_pairs_of_choices_explain_a_source_where_networks_abound():
    """Of 32 networks a pair of two choices may be told, of 16 it may not."""
    choices = np.repeat(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float), 8, axis=0)
    ms = np.exp(choices[:, 0] * choices[:, 1])[:, None]
    known = read(ms, choices)
    plain = read(ms[::2], choices[::2])
    both = known.smooth[choices.all(1)][0, 0] - known.smooth[~choices.any(1)][0, 0]
    alone = known.smooth[8, 0] - known.smooth[0, 0]
    assert both > 2 * alone + 0.3
    assert plain.smooth[-1, 0] - plain.smooth[0, 0] == pytest.approx(
        2 * (plain.smooth[4, 0] - plain.smooth[0, 0])
    )


def test_errors_of_predicted_operators_add_up_but_for_what_is_their_own():
    """Two families, whose errors have a tenth in common; twice the same operator, all of it."""
    many = [OpSpec("conv", 8, 8, 8 * i, 8 * j, 1) for i in range(1, 7) for j in range(1, 8)]
    dense = [replace(op, kernel=3) for op in many]
    model = fit(_table(many + dense))
    one, other = OpSpec("conv", 8, 8, 20, 20, 1), OpSpec("conv", 8, 8, 20, 20, 3)
    first, second = model.predict_op(one), model.predict_op(other)
    halves = [(part.high_ms - part.low_ms) / 2 for part in (first, second)]

    def half_of(*ops):
        kernels_ = KernelGraph("net", tuple(Kernel(op, ()) for op in ops))
        found = model.predict(kernels_)
        assert found.ms == pytest.approx(sum(model.predict_op(op).ms for op in ops))
        return found.high_ms - found.ms

    assert half_of(one) == pytest.approx(halves[0])
    assert half_of(one, one) == pytest.approx(2 * halves[0])
    together = sum(half**2 for half in halves) + 2 * 0.1 * halves[0] * halves[1]
    assert half_of(one, other) == pytest.approx(together**0.5)
