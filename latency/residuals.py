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
_MOST_ROWS_TO_TUNE, _STEPS = 200, 30
"""Rows whose likelihood is climbed, and steps of the climb."""
_KERNEL_ROWS, _KERNEL_STEPS = 80, 12
"""The same of kernels inside networks, of which a command needs several families at once."""
_USUAL_LENGTH, _USUAL_SPREAD = 3.0, 1.5
"""A length's prior: log-normal about three octaves."""


def fit_process(places: Floats, residuals: Floats, noise: Floats, inside: bool = False) -> Any:
    """The process of `residuals` (rows,) at `places` (rows, features), which have `noise`
    (variances, rows): scikit-learn's `GaussianProcessRegressor`, fitted. `inside`: of kernels that
    were measured inside networks."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from threadpoolctl import threadpool_limits

    start = _start(places, residuals, inside)
    most, steps = (_KERNEL_ROWS, _KERNEL_STEPS) if inside else (_MOST_ROWS_TO_TUNE, _STEPS)
    with threadpool_limits(1):  # matrices this small take threads longer to share than to compute
        kernel = tune(start, places, residuals, noise, steps, most)
        process = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None)
        return process.fit(places, residuals)


def _start(places: Floats, residuals: Floats, inside: bool) -> Any:
    """The kernel before its parameters are tuned. What their neighbourhoods do to rows that were
    measured `inside` networks is noise of its own."""
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    rows, features = places.shape
    lengths = np.full(features, 2.0) if rows >= _ROWS_OF_OWN_LENGTHS else 2.0
    variance = float(np.clip(np.mean(residuals**2), 1e-4, 1.0))
    smooth = ConstantKernel(variance, (1e-4, 10.0)) * Matern(lengths, (0.3, 100.0), nu=2.5)
    return smooth + (WhiteKernel(1e-2, (1e-5, 0.5)) if inside else WhiteKernel(1e-5, (1e-7, 1e-2)))


def tune(
    kernel: Any,
    places: Floats,
    residuals: Floats,
    noise: Floats,
    steps: int,
    most: int = _MOST_ROWS_TO_TUNE,
) -> Any:
    """The kernel with the parameters of the largest marginal likelihood that `steps` lead to,
    by `most` of the rows."""
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

    few = np.arange(0, len(places), -(-len(places) // most))
    process = GaussianProcessRegressor(kernel, alpha=noise[few], optimizer=climb)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound is no feature
        return process.fit(places[few], residuals[few]).kernel_
