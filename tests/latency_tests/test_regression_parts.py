"""The parts of the regression, each by itself: cost models of families, kernels, calibrations."""

from dataclasses import replace

import numpy as np
import pytest

from latency import LatencyTable, Measurement, OpSpec, Setting
from latency.operators.features import physical_terms
from latency.predictors.families import fit_family
from latency.predictors.gaussian_process import Kernel, fit_process, log_likelihood
from latency.predictors.regression import fit
from latency.predictors.roofline import Roofline
from latency.tables.calibration import Calibration

BOUNDS = ((1e-4, 10.0), (0.3, 100.0), (1e-7, 1e-2))
SIZES = [3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128]


def convolution(channels, activation="none", size=8):
    return OpSpec("conv", size, size, channels, 16, activation=activation)


def by_macs(op):
    return 0.01 + 1e-7 * op.macs


def table_of(ops, **more):
    rows = {op: Measurement(by_macs(op), 0.01 * by_macs(op), 50, by_macs(op)) for op in ops}
    return LatencyTable(Setting("d", "h", runtime="r"), rows, **more)


def test_the_intervals_of_a_family_do_not_depend_on_the_unit_of_time():
    ops = [convolution(channels) for channels in SIZES]
    ms = np.array([by_macs(op) for op in ops]) * np.tile([1.0, 1.1, 0.95, 1.03], 3)
    in_ms, in_us = (fit_family(ops, unit * ms, np.full(12, 1e-4)) for unit in (1.0, 1e3))
    assert in_us.deviations == pytest.approx(in_ms.deviations, rel=1e-3)


def test_rows_that_nothing_else_covers_do_not_keep_others_from_telling_how_wide_intervals_are():
    loners = [replace(convolution(16), batch=batch) for batch in range(2, 8)]
    near = [convolution(channels) for channels in (12, 14, 16, 18, 20, 22)]
    ops = [*loners, *near]
    ms = np.array([by_macs(op) for op in ops])
    nothing_known = 4.0
    assert fit_family(loners, ms[:6], np.full(6, 1e-4)).deviations == nothing_known
    assert fit_family(ops, ms, np.full(12, 1e-4)).deviations < nothing_known


@pytest.mark.parametrize("lengths", [[1.5], [1.5, 0.7], [1.5, 0.7, 2.0]])
def test_the_slope_of_a_likelihood_is_that_of_its_values(generator, lengths):
    kernel = Kernel.of(0.5, np.array(lengths), 1e-3, BOUNDS)
    places, values = generator.normal(size=(9, len(lengths))), generator.normal(size=9)
    noise, step = np.full(9, 0.01), 1e-6

    def at(theta):
        return log_likelihood(replace(kernel, theta=theta), places, values, noise)

    steps = step * np.eye(len(kernel.theta))
    slopes = [(at(kernel.theta + s)[0] - at(kernel.theta - s)[0]) / (2 * step) for s in steps]
    assert at(kernel.theta)[1] == pytest.approx(slopes, rel=1e-4, abs=1e-6)


def test_the_noise_of_neighbourhoods_is_never_taken_to_be_above_a_half():
    places, residuals = np.repeat(np.arange(10.0), 2)[:, None], np.tile([2.0, -2.0], 10)
    process = fit_process(places, residuals, np.full(20, 1e-4), inside=True)
    assert np.exp(process.kernel.theta[-1]) == pytest.approx(0.5)


@pytest.mark.parametrize(("slow", "sized"), [(0.0, False), (0.1, True)])
def test_kernel_sizes_have_costs_of_their_own_only_where_one_of_them_is_slow(slow, sized):
    ops = [
        OpSpec("mbconv", size, size, 16, 16, kernel, 1, 6)
        for size in (7, 14, 28)
        for kernel in (3, 5, 7)
    ]
    sevens = [physical_terms(op, sized=True).get(("depthwise 7x7", "macs"), 0.0) for op in ops]
    ms = np.array([by_macs(op) for op in ops]) + slow * np.array(sevens)
    assert Roofline.fit(ops, ms).sized is sized


def test_an_operator_of_no_measured_family_is_served_by_the_largest():
    linear = [OpSpec("linear", 1, 1, 8 + i, 16) for i in range(41)]
    pointwise = [convolution(8 + i) for i in range(40)]
    model = fit(table_of([*pointwise, *linear]))
    stranger = OpSpec("pool", 8, 8, 4, 4, 8)
    assert model.family_of(stranger) is model.family_of(linear[0])
    assert model.family_of(stranger) is not model.family_of(pointwise[0])


def test_what_lies_near_a_row_that_costs_the_same_inside_networks_does_so_too():
    ops = [convolution(channels) for channels in SIZES]
    table = table_of(ops, calibrations={"s": Calibration(scale=2.0)})
    alone = fit(table_of(ops)).predict_op(convolution(20))
    assert fit(table).predict_op(convolution(20)).ms == pytest.approx(alone.ms)
