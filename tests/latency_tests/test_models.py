"""Calibration, candidate matrices, and the expected latency."""

import numpy as np
import pytest
import torch

from latency import (
    CandidateLatency,
    CoverageError,
    OpSpec,
    SpecError,
    calibrate,
    candidate_latency,
    validate,
)
from latency.expected import ExpectedLatency
from latency.tables.calibration import Calibration


def _totals(calibration, table, networks):
    return [
        sum(calibration.in_network_ms(op, table[op].median_ms) for op in network.ops)
        for network in networks
    ]


def test_calibration_finds_what_networks_were_made_with(toy_table, toy_space, generator):
    truth = Calibration(0.95, 0.002, -0.1, 0.3)
    networks = [toy_space.network(c) for c in toy_space.random_choices(40, generator)]
    measured = _totals(truth, toy_table, networks)
    alone = {op: row.median_ms for op, row in toy_table.rows.items()}
    parts = [network.parts for network in networks]
    found = calibrate(alone, list(zip(parts[:25], measured[:25], strict=True)))
    validation = validate(_totals(found, toy_table, networks[25:]), measured[25:])
    assert validation.worst < 1e-3
    assert validation.networks == 15


def test_networks_that_a_few_operators_dominate_say_little_of_the_others(
    toy_table, toy_space, generator
):
    rest = [op for block in toy_space.blocks for op in block if op is not None]
    slow, quick = rest[0], rest[1:]
    alone = dict.fromkeys(quick, 1.0) | {slow: 300.0}
    noise = np.random.default_rng(1).normal(0, 0.02, 16)
    networks = [((slow, *generator.permutation(quick)[:3]), 303.0 * (1 + e)) for e in noise]
    found = calibrate(alone, networks)
    for op in quick:
        assert found.in_network_ms(op, 1.0) == pytest.approx(1.0, abs=0.15)


def test_operators_without_weights_are_calibrated():
    pool, max_pool = OpSpec("pool", 8, 8, 8, 8, 8), OpSpec("max_pool", 8, 8, 8, 8, 3)
    networks = [((pool, max_pool), 3.0), ((pool, pool, max_pool), 4.0), ((max_pool,), 2.0)]
    found = calibrate({pool: 1.0, max_pool: 2.0}, networks)
    assert found.in_network_ms(max_pool, 2.0) == pytest.approx(2.0)
    assert found.per_weight_mb_ms == 0.0


def test_without_networks_an_operator_costs_what_it_costs_alone(toy_table):
    alone = {op: row.median_ms for op, row in toy_table.rows.items()}
    found = calibrate(alone, [])
    for op, ms in alone.items():
        assert found.in_network_ms(op, ms) == pytest.approx(ms)


def test_an_operator_never_costs_nothing(toy_table):
    op = next(iter(toy_table))
    assert Calibration(1.0, per_op_ms=-100).in_network_ms(op, 2.0) == pytest.approx(0.1)


def test_errors_are_relative_to_what_was_measured():
    validation = validate([1.1, 1.9], [1.0, 2.0])
    assert validation.mean == pytest.approx(0.075)
    assert validation.worst == pytest.approx(0.1)
    assert validation.rms == pytest.approx(np.sqrt((0.01 + 0.0025) / 2))


def test_the_matrix_agrees_with_the_table_on_every_network(toy_table, toy_space, generator):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    choices = toy_space.random_choices(50, generator)
    expected = [toy_table.predict(toy_space.network(row)).ms for row in choices]
    assert costs.predict(choices) == pytest.approx(expected)
    assert costs.fastest_ms <= min(expected)
    assert costs.slowest_ms >= max(expected)


def test_the_ends_of_a_space_are_what_is_predicted_of_them_to_the_last_digit(generator):
    for _ in range(20):
        matrix = generator.uniform(0.1, 1.0, (12, 7))
        costs = CandidateLatency(0.3, matrix, np.full(12, 7))
        ends = costs.predict([matrix.argmin(1), matrix.argmax(1)])
        assert ends.tolist() == [costs.fastest_ms, costs.slowest_ms]


def test_choices_that_are_no_candidates_are_refused(toy_table, toy_space):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    for wrong in ([[6, 0, 0, 0]], [[-1, 0, 0, 0]], [[0, 0, 0]], [[0.5, 0, 0, 0]]):
        with pytest.raises(SpecError):
            costs.predict(wrong)


@pytest.mark.parametrize(
    "counts", [[7] * 21, [1] * 70, [5000, 2, 1, 90, 90, 3], [6, 7, 7] * 9], ids=str
)
def test_blocks_of_any_number_and_width_add_up(counts, generator):
    counts = np.array(counts, np.int64)
    matrix = generator.uniform(0.01, 10, (len(counts), counts.max()))
    matrix[np.arange(counts.max()) >= counts[:, None]] = np.nan
    costs = CandidateLatency(1.5, matrix, counts)
    choices = generator.integers(0, counts, (20_000, len(counts)))
    expected = 1.5 + matrix[np.arange(len(counts)), choices].sum(1)
    for kind in (np.int64, np.uint64, np.int16, ">i4"):
        given = choices.astype(kind)
        np.testing.assert_allclose(costs.predict(given), expected, rtol=1e-12)
        np.testing.assert_allclose(costs.predict(given[::3]), expected[::3], rtol=1e-12)
    assert costs.predict(choices[:0]).shape == (0,)
    for wrong in (-1, counts[-1], 2**40):
        choices[-1, -1] = wrong
        with pytest.raises(SpecError, match="names a candidate"):
            costs.predict(choices)


def test_a_matrix_with_holes_is_refused(toy_table, toy_space):
    *rest, last = toy_table.rows.items()
    holed = type(toy_table)(toy_table.setting, dict(rest))
    with pytest.raises(CoverageError, match=last[0].key):
        candidate_latency(holed, toy_space.blocks, toy_space.fixed)


def _probabilities(toy_space, shape=()):
    torch.manual_seed(0)
    width = max(toy_space.counts)
    mask = torch.arange(width) < torch.tensor(toy_space.counts)[:, None]
    logits = torch.randn(*shape, *mask.shape, dtype=torch.float64)
    return logits.masked_fill(~mask, -torch.inf).softmax(-1)


def test_one_hot_probabilities_give_the_tables_prediction(toy_table, toy_space, generator):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    for choices in toy_space.random_choices(20, generator):
        one_hot = torch.nn.functional.one_hot(torch.tensor(choices), max(toy_space.counts))
        expected = toy_table.predict(toy_space.network(choices)).ms
        assert float(ExpectedLatency(costs)(one_hot.double())) == pytest.approx(expected)


def test_the_gradient_agrees_with_finite_differences(toy_table, toy_space):
    module = ExpectedLatency(candidate_latency(toy_table, toy_space.blocks, toy_space.fixed))
    probabilities = _probabilities(toy_space).requires_grad_()
    assert torch.autograd.gradcheck(module, (probabilities,))


def test_the_expectation_is_that_of_sampled_networks(toy_table, toy_space, generator):
    costs = candidate_latency(toy_table, toy_space.blocks, toy_space.fixed)
    probabilities = _probabilities(toy_space)
    columns = [
        generator.choice(len(block), 20000, p=row[: len(block)] / row[: len(block)].sum())
        for block, row in zip(toy_space.blocks, probabilities.numpy(), strict=True)
    ]
    sampled = costs.predict(np.stack(columns, 1)).mean()
    assert float(ExpectedLatency(costs)(probabilities)) == pytest.approx(sampled, rel=0.01)


def test_batches_of_distributions_are_taken_at_once(toy_table, toy_space):
    module = ExpectedLatency(candidate_latency(toy_table, toy_space.blocks, toy_space.fixed))
    batch = _probabilities(toy_space, (5, 3))
    assert module(batch).shape == (5, 3)
    assert float(module(batch)[2, 1]) == pytest.approx(float(module(batch[2, 1])))


def test_another_shape_is_refused(toy_table, toy_space):
    module = ExpectedLatency(candidate_latency(toy_table, toy_space.blocks, toy_space.fixed))
    with pytest.raises(ValueError, match="expected"):
        module(torch.ones(2, 7))
