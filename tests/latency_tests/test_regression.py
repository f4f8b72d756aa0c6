"""The regression, against published tables and our own: errors, intervals, and what is refused."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from latency import (
    CoverageError,
    LatencyTable,
    Measurement,
    NetworkSpec,
    OpSpec,
    Setting,
    TableError,
    candidate_latency,
)
from latency.exchange.tables import import_table
from latency.graphs.kernels import Kernel, KernelGraph
from latency.graphs.non_square import bounds_of
from latency.operators.features import Neighbours
from latency.prediction import Prediction
from latency.predictors.regression import REACH, fit
from latency.tables.library import shipped_folder
from search import spaces

DATA = Path(__file__).parents[2].parent / "shared" / "data"
published = pytest.mark.skipif(
    not DATA.exists(), reason="the published tables are not beside the checkout"
)
CPU_TABLES = sorted(shipped_folder().glob("*-cpus-*.csv"))
OURS = next(path for path in CPU_TABLES if "onnxruntime" in path.stem)


def without(table: LatencyTable, gone: set[OpSpec]) -> LatencyTable:
    """The table without some of its rows."""
    return replace(
        table,
        rows={op: row for op, row in table.rows.items() if op not in gone},
        in_network_ms={op: ms for op, ms in table.in_network_ms.items() if op not in gone},
    )


def leave_one_out(table: LatencyTable, ops) -> tuple[np.ndarray, np.ndarray]:
    """Relative error of each operator as a table without it has it, and whether it is covered."""
    errors, covered = [], []
    for op in ops:
        predicted = fit(without(table, {op})).predict_op(op)
        assert predicted.source == "predicted"
        measured_ms = table.predict_op(op).ms
        errors.append(abs(predicted.ms / measured_ms - 1))
        covered.append(predicted.low_ms <= measured_ms <= predicted.high_ms)
    return np.array(errors), np.array(covered)


@published
def test_blocks_of_the_published_pixel_1_are_predicted_from_the_others():
    table = import_table(DATA / "pixel1/mobile_trim.yaml", "proxylessnas", "pixel1")
    blocks = [op for op in table if op.kind == "mbconv"]
    assert len(blocks) == 69
    errors, covered = leave_one_out(table, blocks)
    assert errors.mean() <= 0.010
    assert errors.max() <= 0.10
    assert (errors <= 0.05).mean() >= 0.97
    assert 0.92 <= covered.mean() <= 0.99


@published
@pytest.mark.parametrize("resolution", [160, 192, 224])
def test_blocks_of_the_published_note_10_are_predicted_from_the_others(resolution):
    table = import_table(DATA / f"note10/{resolution}_lookup_table.yaml", "ofa", "note10")
    blocks = sorted((op for op in table if op.kind == "mbconv"), key=lambda op: op.key)
    unusual = [op for op in blocks if op.expansion == 1]
    some = [*unusual, *blocks[3::18]]  # all of them: a minute a table
    errors, covered = leave_one_out(table, some)
    assert errors.mean() <= 0.013
    assert errors.max() <= 0.15
    assert (errors <= 0.05).mean() >= 0.97
    assert covered.mean() >= 0.8


@pytest.mark.parametrize("path", CPU_TABLES, ids=lambda path: path.stem[-24:])
def test_half_of_our_operators_tell_the_networks(path):
    table = LatencyTable.load(path)
    table = without(table, {op for op, row in table.rows.items() if row.is_of_suite})
    space = spaces.load("proxyless")
    if table.missing(space.operators):
        pytest.skip(f"{path.stem} does not cover the proxyless space")
    blocks = sorted((op for op in table if op.kind == "mbconv"), key=lambda op: op.key)
    errors, covered = [], []
    for seed in range(2):
        generator = np.random.default_rng(seed)
        gone = {blocks[i] for i in generator.permutation(len(blocks))[: len(table) // 2]}
        model = fit(without(table, gone))
        for choices in space.random_choices(30, generator):
            network = space.network(choices)
            predicted, ms = model.predict(network), table.predict(network).ms
            assert predicted.ms == pytest.approx(sum(part.ms for part in predicted.per_op))
            errors.append(abs(predicted.ms / ms - 1))
            covered.append(predicted.low_ms <= ms <= predicted.high_ms)
    assert np.mean(errors) <= 0.02
    assert np.mean(covered) >= 0.92


def test_what_was_measured_is_told_as_measured(toy_table, toy_space):
    model = fit(toy_table)
    network = toy_space.network(toy_space.largest)
    prediction = model.predict(network)
    assert {part.source for part in prediction.per_op} == {"measured"}
    assert prediction == toy_table.predict(network)
    assert model.missing(toy_table) == ()


def test_the_same_table_gives_the_same_model(toy_table):
    stranger = OpSpec("mbconv", 16, 16, 8, 8, 3, 1, 4, "relu6")
    reversed_rows = dict(reversed(toy_table.rows.items()))
    first = fit(toy_table).predict_op(stranger)
    assert fit(replace(toy_table, rows=reversed_rows)).predict_op(stranger) == first
    assert first.source == "predicted"
    assert first.low_ms < first.ms < first.high_ms


def test_it_predicts_what_a_network_costs_by_the_calibration_of_the_nearest_operator():
    table = LatencyTable.load(OURS)
    op = next(op for op in table if op.kind == "mbconv" and op.height == 14)
    model = fit(without(table, {op}))
    assert model.predict_op(op).ms == pytest.approx(table.in_network_ms[op], rel=0.05)


def test_channels_that_go_together_count_once():
    def octaves(wide, narrow):
        return float(Neighbours([OpSpec.parse(narrow)]).distances(OpSpec.parse(wide))[0])

    assert octaves("concat-14x14x800-864-k1-s1", "concat-14x14x200-216-k1-s1") == pytest.approx(2.0)
    assert octaves("layer_norm-7x7x768-768-k1-s1", "layer_norm-7x7x192-192-k1-s1") == pytest.approx(
        2.0
    )
    assert octaves("conv-14x14x800-800-k3-s1", "conv-14x14x200-200-k3-s1") == pytest.approx(8**0.5)


@pytest.mark.parametrize(
    "far",
    [
        OpSpec("mbconv", 16, 16, 8, 8, 3, 1, 6, "h_swish"),
        OpSpec("mbconv", 16, 16, 8, 8, 3, 1, 6, "relu6", 0.25),
        OpSpec("mbconv", 128, 128, 8, 8, 3, 1, 6, "relu6"),
        OpSpec("mbconv", 16, 16, 64, 64, 3, 1, 6, "relu6"),
        OpSpec("mbconv", 16, 16, 8, 8, 3, 1, 6, "relu6", batch=8),
        OpSpec("linear", 1, 1, 1280, 1000),
    ],
    ids=str,
)
def test_far_from_all_that_was_measured_it_refuses_and_names_the_nearest(toy_table, far):
    model = fit(toy_table)
    near, distance = model.nearest(far)
    assert distance >= REACH
    assert model.missing([far, near]) == (far,)
    with pytest.raises(CoverageError, match=rf"nearest to {far.key}: {near.key}.*`extrapolate`"):
        model.predict_op(far)
    with pytest.raises(CoverageError, match=far.key):
        model.predict(NetworkSpec.of("far", (far,)))
    bold = fit(toy_table, extrapolate=True)
    assert bold.missing([far]) == ()
    guess = bold.predict_op(far)
    assert 0 <= guess.low_ms < guess.ms < guess.high_ms
    assert guess.high_ms / guess.ms > 1.4


def test_errors_of_one_operator_do_not_cancel():
    table = LatencyTable.load(OURS)
    op = OpSpec.parse("mbconv-14x14x96-96-k5-s1-e6-relu6")
    model = fit(replace(without(table, {op}), validations={}))
    once, thrice = (model.predict(NetworkSpec.of("n", (op,) * n)) for n in (1, 3))
    half = once.high_ms - once.ms
    assert thrice.ms == pytest.approx(3 * once.ms)
    assert thrice.high_ms - thrice.ms == pytest.approx(3 * half)


def test_errors_of_alike_operators_add_up_to_more_than_independent_ones():
    table = LatencyTable.load(OURS)
    ops = tuple(OpSpec.parse(f"mbconv-14x14x96-96-k{k}-s1-e6-relu6") for k in (3, 5, 7))
    model = fit(replace(without(table, set(ops)), validations={}))
    whole = model.predict(NetworkSpec.of("n", ops))
    halves = [(part.high_ms - part.low_ms) / 2 for part in whole.per_op]
    assert np.linalg.norm(halves) < whole.high_ms - whole.ms <= 1.001 * sum(halves)


def test_a_regression_is_a_latency_model(toy_table, toy_space):
    gone = {op for op in toy_table if op.kernel == 5}
    model = fit(without(toy_table, gone))
    costs = candidate_latency(model, toy_space.blocks, toy_space.fixed)
    choices = [toy_space.largest]
    assert costs.predict(choices)[0] == pytest.approx(
        model.predict(toy_space.network(toy_space.largest)).ms
    )


def _rows(count: int) -> LatencyTable:
    """Made-up rows: time in proportion to multiply-accumulates and bytes."""
    rows = {}
    for index in range(count):
        size, channels = 8 + 4 * (index % 7), 8 * (1 + index // 7)
        op = OpSpec("mbconv", size, size, channels, channels, 3 + 2 * (index % 3), 1, 3, "relu6")
        ms = 1e-8 * op.macs + 2e-7 * op.bytes
        rows[op] = Measurement(ms, 0.005 * ms, 50, ms)
    return LatencyTable(Setting("toy", "toy", runtime="toy"), rows)


@pytest.mark.parametrize("count", [5, 19, 40, 500])
def test_tables_of_all_sizes_are_fitted(count):
    table = _rows(count)
    middle = sorted(table, key=lambda op: op.macs)[count // 2]
    wider = replace(middle, in_channels=middle.in_channels + 4)
    ms = 1e-8 * wider.macs + 2e-7 * wider.bytes
    predicted = fit(table).predict_op(wider)
    assert predicted.ms == pytest.approx(ms, rel=0.1 if count > 5 else 0.3)
    assert predicted.low_ms < ms < predicted.high_ms


def test_four_rows_are_too_few():
    with pytest.raises(TableError, match="4 rows are too few"):
        fit(_rows(4))


def test_a_runtime_that_is_slow_for_one_kernel_size_is_understood():
    table = _rows(120)
    slow = {
        op: replace(row, median_ms=9 * row.median_ms) if op.kernel == 7 else row
        for op, row in table.rows.items()
    }
    table = replace(table, rows=slow)
    gone = {op for index, op in enumerate(sorted(table, key=lambda op: op.key)) if index % 4 == 0}
    model = fit(without(table, gone))
    assert model.family_of(next(iter(gone))).roofline.sized
    errors = [model.predict_op(op).ms / table[op].median_ms - 1 for op in gone]
    assert np.mean(np.abs(errors)) < 0.1


def test_a_non_square_kernel_is_interpolated_between_squares_with_a_wider_interval():
    table = LatencyTable.load(OURS)
    small, large = (OpSpec("conv", 17, 17, 128, 128, side) for side in (1, 3))
    model = fit(table)

    def predict(kernel: Kernel) -> Prediction:
        return model.predict(KernelGraph("one", (kernel,)))

    wide = predict(Kernel(large, (), bounds_of(large, 7)))
    near, far = predict(Kernel(large, ())), predict(Kernel(small, ()))
    assert wide.ms == pytest.approx(0.75 * near.ms + 0.25 * far.ms)
    assert wide.per_op[0].source == "predicted"
    assert wide.per_op[0].high_ms >= 1.4 * wide.ms
    assert wide.high_ms / wide.ms > near.high_ms / near.ms
    assert wide.low_ms < 0.6 * wide.ms


def test_a_non_square_kernel_between_squares_out_of_reach_is_refused():
    table = LatencyTable.load(OURS)
    op = OpSpec("conv", 17, 17, 128, 128, 61)
    graph = KernelGraph("one", (Kernel(op, (), bounds_of(op, 62 * 62)),))
    with pytest.raises(CoverageError, match="k61"):
        fit(table).predict(graph)


def test_importing_the_regression_does_not_load_scipy():
    code = (
        "import latency.predictors.regression, sys;"
        "print(sorted({'sklearn', 'scipy', 'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_is_fitted_when_fit_returns_and_predicting_changes_nothing_of_it(
    toy_table, monkeypatch
):
    model = fit(toy_table, extrapolate=True)
    before = dict(model.families)
    assert all(before.values())
    monkeypatch.setattr("latency.predictors.families.fit_family", None)  # nothing is fitted now
    stranger = replace(next(iter(toy_table)), height=15, width=15)
    assert model.predict_op(stranger) == model.predict_op(stranger)
    assert all(model.families[name] is family for name, family in before.items())
    with pytest.raises(FrozenInstanceError):
        model.families = {}


def test_only_the_cost_models_that_operators_need_are_fitted(monkeypatch):
    table = _two_families()
    pointwise, pool = OpSpec("conv", 9, 9, 24, 24, 1), OpSpec("max_pool", 9, 9, 24, 24, 3)
    model = fit(table, operators=[*table, pointwise])
    assert model.predict_op(pointwise) == fit(table).predict_op(pointwise)
    asked = KernelGraph("asked", (Kernel(pool, ()),))
    for predict in (lambda: model.predict_op(pool), lambda: model.predict(asked)):
        with pytest.raises(CoverageError, match=r"fitted for other operators.*`operators`"):
            predict()
    covered = fit(table, operators=table)
    assert not covered.families
    some = next(iter(table))
    assert covered.predict_op(some) == table.predict_op(some)


def _two_families():
    ops = [OpSpec("conv", 8, 8, 8 * i, 8 * j, 1) for i in range(1, 7) for j in range(1, 8)]
    ops += [OpSpec("max_pool", side, side, 8, 8, 3) for side in range(4, 50)]
    rows = {op: Measurement(ms, 0.01 * ms, 50, ms) for op in ops for ms in [0.01 + op.bytes * 1e-7]}
    return LatencyTable(Setting("toy", "toy hardware"), rows)
