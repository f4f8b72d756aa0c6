"""Exact Gaussian-process regression (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006, chapters 2 and 5), in numpy.

The covariance is a Matern one of smoothness 5/2 with one length per feature, or one for all, plus
white noise. Predictions equal those of scikit-learn's `GaussianProcessRegressor` (tested), which
takes 1.2 s of CPU time to import.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_ROWS_OF_OWN_LENGTHS = 20
"""Tables of fewer rows get one length for all features."""
_MOST_ROWS_TO_TUNE, _STEPS = 200, 30
"""Rows and steps of the optimisation of the likelihood."""
_KERNEL_ROWS, _KERNEL_STEPS = 80, 12
"""The same for kernels inside networks, of which a command needs several families at once."""
_USUAL_LENGTH, _USUAL_SPREAD = 3.0, 1.5
"""A length's prior: log-normal about three octaves."""

Floats = NDArray[np.float64]

_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Kernel:
    """A covariance function, by the logarithms of its parameters.

    `theta` (2 + lengths,): of the variance, of each feature's length (or of the common length) and
    of the variance of the white noise. `bounds` (2 + lengths, 2): limits of `theta` in tuning.
    """

    theta: Floats
    bounds: Floats

    @classmethod
    def of(
        cls,
        variance: float,
        lengths: Floats,
        white: float,
        bounds: tuple[tuple[float, float], tuple[float, float], tuple[float, float]],
    ) -> "Kernel":
        """The kernel of these parameters, with the bounds of variance, lengths and white noise."""
        of_variance, of_lengths, of_white = bounds
        limits = [of_variance, *[of_lengths] * len(lengths), of_white]
        return cls(np.log([variance, *lengths, white]), np.log(limits))

    def between(self, features: Floats, others: Floats) -> Floats:
        """Covariance without noise, shape (rows, others)."""
        steps = math.sqrt(5) * np.sqrt(self._squares(features, others))
        return np.exp(self.theta[0]) * (1 + steps + steps**2 / 3) * np.exp(-steps)

    def among(self, features: Floats) -> Floats:
        """Covariance with white noise, shape (rows, rows)."""
        covariance = self.between(features, features)
        covariance[np.diag_indices_from(covariance)] += np.exp(self.theta[-1])
        return covariance

    def slope(self, features: Floats, weights: Floats) -> Floats:
        """Sum of the symmetric `weights` (rows, rows) times the derivative of `among` by each of
        `theta`."""
        variance, white = np.exp(self.theta[[0, -1]])
        smooth = self.between(features, features)
        steps = math.sqrt(5) * np.sqrt(self._squares(features, features))
        pulls = weights * (5 / 3 * variance * (1 + steps) * np.exp(-steps))
        scaled = features / self._lengths
        squared = 2 * (pulls.sum(1) @ scaled**2 - np.einsum("ij,ij->j", scaled, pulls @ scaled))
        by_length = squared if len(self.theta) > 3 else squared.sum(keepdims=True)
        return np.array([np.sum(weights * smooth), *by_length, white * np.trace(weights)])

    @property
    def _lengths(self) -> Floats:
        return np.exp(self.theta[1:-1])

    def _squares(self, features: Floats, others: Floats) -> Floats:
        """Squared distances in units of the lengths, shape (rows, others)."""
        here, there = features / self._lengths, others / self._lengths
        squares = (here**2).sum(1)[:, None] + (there**2).sum(1) - 2 * here @ there.T
        return np.maximum(squares, 0.0)


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process of mean zero. `inverse` (rows, rows): inverse covariance of the training
    rows; `weights` (rows,): that inverse times their values."""

    kernel: Kernel
    features: Floats
    inverse: Floats
    weights: Floats

    @classmethod
    def fit(
        cls, kernel: Kernel, features: Floats, values: Floats, noise: Floats
    ) -> "GaussianProcess":
        """Fit `values` (rows,) at feature vectors `features` (rows, n), with variances `noise`
        (rows,) besides the kernel's white noise. Raises `numpy.linalg.LinAlgError` for a singular
        covariance."""
        inverse = np.linalg.inv(kernel.among(features) + np.diag(noise))
        inverse = (inverse + inverse.T) / 2
        return cls(kernel, features, inverse, inverse @ values)

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean (rows,) and covariance (rows, rows) of new measurements."""
        across = self.kernel.between(features, self.features)
        return across @ self.weights, self.kernel.among(features) - across @ self.inverse @ across.T


def log_likelihood(
    kernel: Kernel, features: Floats, values: Floats, noise: Floats
) -> tuple[float, Floats]:
    """Log marginal likelihood of values and its gradient by `kernel.theta`; minus infinity if the
    covariance is not positive definite (Rasmussen & Williams, equations 5.8 and 5.9)."""
    try:
        lower = np.linalg.cholesky(kernel.among(features) + np.diag(noise))
    except np.linalg.LinAlgError:
        return -math.inf, np.zeros_like(kernel.theta)
    half = np.linalg.inv(lower)
    inverse = half.T @ half
    weights = inverse @ values
    value = -0.5 * values @ weights - np.log(np.diag(lower)).sum() - 0.5 * len(values) * _LOG_2PI
    return float(value), 0.5 * kernel.slope(features, np.outer(weights, weights) - inverse)


def fit_process(
    features: Floats, residuals: Floats, noise: Floats, inside: bool = False
) -> GaussianProcess:
    """The process of `residuals` (rows,) at feature vectors `features` (rows, n) with variances
    `noise` (rows,). `inside`: of kernels that were measured inside networks, which have more white
    noise."""
    rows, columns = features.shape
    lengths = np.full(columns if rows >= _ROWS_OF_OWN_LENGTHS else 1, 2.0)
    variance = float(np.clip(np.mean(residuals**2), 1e-4, 1.0))
    white, of_white = (1e-2, (1e-5, 0.5)) if inside else (1e-5, (1e-7, 1e-2))
    start = Kernel.of(variance, lengths, white, ((1e-4, 10.0), (0.3, 100.0), of_white))
    most, steps = (_KERNEL_ROWS, _KERNEL_STEPS) if inside else (_MOST_ROWS_TO_TUNE, _STEPS)
    kernel = tune(start, features, residuals, noise, steps, most)
    return GaussianProcess.fit(kernel, features, residuals, noise)


def tune(
    kernel: Kernel,
    features: Floats,
    residuals: Floats,
    noise: Floats,
    steps: int,
    most: int = _MOST_ROWS_TO_TUNE,
) -> Kernel:
    """Maximise the marginal likelihood of at most `most` rows in `steps` steps of L-BFGS-B."""
    from scipy.optimize import minimize

    few = slice(None, None, -(-len(features) // most))
    usual = kernel.theta.copy()
    usual[1:-1] = math.log(_USUAL_LENGTH)

    def penalised(theta: Floats) -> tuple[float, Floats]:
        trial = replace(kernel, theta=theta)
        value, slope = log_likelihood(trial, features[few], residuals[few], noise[few])
        off = (theta - usual) / _USUAL_SPREAD
        return 0.5 * float(off @ off) - value, off / _USUAL_SPREAD - slope

    found = minimize(
        penalised,
        kernel.theta,
        jac=True,
        method="L-BFGS-B",
        bounds=kernel.bounds,
        options={"maxiter": steps},
    )
    return replace(kernel, theta=found.x)
