"""The Gaussian process of what a roofline gets wrong (Rasmussen & Williams, 2006).

Matern 5/2 with one length a feature, of the largest marginal likelihood under a weak prior.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROWS_OF_OWN_LENGTHS = 20
"""Tables of fewer rows get one length for all features: their rows cannot tell lengths apart."""
_MOST_ROWS_TO_TUNE = 120
_STEPS, _FEW_STEPS = 30, 12
"""Of the climb to the largest likelihood; few where the rows are many and tell it within a few."""
_USUAL_LENGTH, _USUAL_SPREAD = 3.0, 1.5
"""A length's prior: log-normal about three octaves."""


def fit_process(places: Floats, residuals: Floats, noise: Floats) -> Any:
    """The process of `residuals` (rows,) at `places` (rows, features), which have `noise`
    (variances, rows): scikit-learn's `GaussianProcessRegressor`, fitted."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    steps = _STEPS if len(places) <= _MOST_ROWS_TO_TUNE else _FEW_STEPS
    kernel = tune(_start(places, residuals), places, residuals, noise, steps)
    return GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(places, residuals)


def _start(places: Floats, residuals: Floats) -> Any:
    """The kernel before its parameters are tuned."""
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rows, features = places.shape
    lengths = np.full(features, 2.0) if rows >= _ROWS_OF_OWN_LENGTHS else 2.0
    variance = float(np.clip(np.mean(residuals**2), 1e-4, 1.0))
    smooth = ConstantKernel(variance, (1e-4, 10.0)) * Matern(lengths, (0.3, 100.0), nu=2.5)
    return smooth + WhiteKernel(1e-5, (1e-7, 1e-2))


def tune(kernel: Any, places: Floats, residuals: Floats, noise: Floats, steps: int) -> Any:
    """The kernel with the parameters of the largest marginal likelihood that `steps` lead to,
    by some of them where they are many."""
    from scipy.optimize import minimize
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor

    def climb(objective: Callable[..., Any], start: Floats, bounds: Floats) -> tuple[Floats, float]:
        options = {"maxiter": steps}

        usual = start.copy()
        usual[1:-1] = math.log(_USUAL_LENGTH)

        def penalised(theta: Floats) -> tuple[float, Floats]:
            value, slope = objective(theta)
            off = (theta - usual) / _USUAL_SPREAD
            return value + 0.5 * float(off @ off), slope + off / _USUAL_SPREAD

        found = minimize(
            penalised, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options
        )
        return found.x, found.fun

    few = np.arange(0, len(places), -(-len(places) // _MOST_ROWS_TO_TUNE))
    process = GaussianProcessRegressor(kernel, alpha=noise[few], optimizer=climb)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is no feature
        return process.fit(places[few], residuals[few]).kernel_
