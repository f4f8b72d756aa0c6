"""The Gaussian process, beside scikit-learn's."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from latency.predictors.gaussian_process import GaussianProcess, Kernel, fit_process, log_likelihood

BOUNDS = ((1e-4, 10.0), (0.3, 100.0), (1e-5, 0.5))


def rows(count: int = 60, features: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, values with steps in them, and variances of different rows."""
    generator = np.random.default_rng(3)
    places = generator.uniform(0, 8, (count, features))
    values = 0.2 * np.sin(places[:, 0]) + 0.1 * (places[:, 1] % 1 > 0.5)
    noise = generator.uniform(1e-6, 1e-3, count)
    return places, values + generator.normal(size=count) * np.sqrt(noise), noise


def ours(lengths: np.ndarray) -> Kernel:
    return Kernel.of(0.3, lengths, 2e-3, BOUNDS)


def theirs(lengths: np.ndarray):
    lengths = lengths if len(lengths) > 1 else lengths[0]
    smooth = ConstantKernel(0.3, BOUNDS[0]) * Matern(lengths, BOUNDS[1], nu=2.5)
    return smooth + WhiteKernel(2e-3, BOUNDS[2])


LENGTHS = [np.array([1.0, 2.0, 5.0, 40.0]), np.array([2.0])]
each_length = pytest.mark.parametrize("lengths", LENGTHS, ids=["one a feature", "one for all"])


@each_length
def test_it_predicts_what_scikit_learn_predicts(lengths):
    places, values, noise = rows()
    new = np.vstack([rows(20)[0] + 0.1, places[:3]])
    process = GaussianProcess.fit(ours(lengths), places, values, noise)
    reference = GaussianProcessRegressor(theirs(lengths), alpha=noise, optimizer=None)
    mean, covariance = reference.fit(places, values).predict(new, return_cov=True)
    assert process.predict(new)[0] == pytest.approx(mean, abs=1e-9)
    assert process.predict(new)[1] == pytest.approx(covariance, abs=1e-9)


@each_length
def test_likelihood_and_slope_are_those_of_scikit_learn(lengths):
    places, values, noise = rows()
    kernel = ours(lengths)
    reference = GaussianProcessRegressor(theirs(lengths), alpha=noise, optimizer=None)
    reference.fit(places, values)
    value, slope = reference.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    assert kernel.theta == pytest.approx(reference.kernel_.theta)
    assert kernel.bounds == pytest.approx(reference.kernel_.bounds)
    assert log_likelihood(kernel, places, values, noise) == (
        pytest.approx(value, rel=1e-9),
        pytest.approx(slope, rel=1e-6, abs=1e-6),
    )


def test_the_slope_is_that_of_small_steps():
    places, values, noise = rows(30)
    kernel = ours(LENGTHS[0])

    def value(theta: np.ndarray) -> float:
        return log_likelihood(Kernel(theta, kernel.bounds), places, values, noise)[0]

    slope = log_likelihood(kernel, places, values, noise)[1]
    assert slope == pytest.approx(approx_fprime(kernel.theta, value, 1e-6), rel=1e-3, abs=1e-3)


def test_rows_that_contradict_the_kernel_have_no_likelihood():
    places = np.zeros((3, 4))
    value, slope = log_likelihood(ours(LENGTHS[0]), places, np.arange(3.0), np.full(3, -1.0))
    assert value == -np.inf
    assert not slope.any()


@pytest.mark.parametrize("count", [12, 60])
@pytest.mark.parametrize("inside", [False, True])
def test_a_tuned_process_is_the_one_that_scikit_learn_tunes(count, inside):
    """The same climb, of the same prior, through scikit-learn's likelihood."""
    places, values, noise = rows(count)
    process = fit_process(places, values, noise, inside)

    def climb(objective, start, bounds):
        usual = start.copy()
        usual[1:-1] = np.log(3.0)

        def penalised(theta):
            value, slope = objective(theta)
            off = (theta - usual) / 1.5
            return value + 0.5 * off @ off, slope + off / 1.5

        options = {"maxiter": 12 if inside else 30}
        how = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": options}
        found = minimize(penalised, start, **how)
        return found.x, found.fun

    white = WhiteKernel(1e-2, (1e-5, 0.5)) if inside else WhiteKernel(1e-5, (1e-7, 1e-2))
    lengths = np.full(4, 2.0) if count >= 20 else 2.0
    variance = float(np.clip(np.mean(values**2), 1e-4, 1.0))
    kernel = ConstantKernel(variance, (1e-4, 10.0)) * Matern(lengths, (0.3, 100.0), nu=2.5) + white
    reference = GaussianProcessRegressor(kernel, alpha=noise, optimizer=climb).fit(places, values)
    mean, deviation = reference.predict(places + 0.3, return_std=True)
    found, covariance = process.predict(places + 0.3)
    assert found == pytest.approx(mean, abs=1e-6)
    assert np.sqrt(np.diag(covariance)) == pytest.approx(deviation, abs=1e-6)
