"""The Gaussian process of what a roofline gets wrong (`latency.gaussian_process`).

Its lengths are those of the largest marginal likelihood under a weak prior.
"""

import math
from dataclasses import replace

import numpy as np

from latency.gaussian_process import Floats, GaussianProcess, Kernel, log_likelihood

_ROWS_OF_OWN_LENGTHS = 20
"""Tables of fewer rows get one length for all features: their rows cannot tell lengths apart."""
_MOST_ROWS_TO_TUNE, _STEPS = 200, 30
"""Rows whose likelihood is climbed, and steps of the climb."""
_KERNEL_ROWS, _KERNEL_STEPS = 80, 12
"""The same of kernels inside networks, of which a command needs several families at once."""
_USUAL_LENGTH, _USUAL_SPREAD = 3.0, 1.5
"""A length's prior: log-normal about three octaves."""


def fit_process(
    places: Floats, residuals: Floats, noise: Floats, inside: bool = False
) -> GaussianProcess:
    """The process of `residuals` (rows,) at `places` (rows, features), which have `noise`
    (variances, rows). `inside`: of kernels that were measured inside networks."""
    start = _start(places, residuals, inside)
    most, steps = (_KERNEL_ROWS, _KERNEL_STEPS) if inside else (_MOST_ROWS_TO_TUNE, _STEPS)
    kernel = tune(start, places, residuals, noise, steps, most)
    return GaussianProcess.fit(kernel, places, residuals, noise)


def _start(places: Floats, residuals: Floats, inside: bool) -> Kernel:
    """The kernel before its parameters are tuned. What their neighbourhoods do to rows that were
    measured `inside` networks is noise of its own."""
    rows, features = places.shape
    lengths = np.full(features if rows >= _ROWS_OF_OWN_LENGTHS else 1, 2.0)
    variance = float(np.clip(np.mean(residuals**2), 1e-4, 1.0))
    white, of_white = (1e-2, (1e-5, 0.5)) if inside else (1e-5, (1e-7, 1e-2))
    return Kernel.of(variance, lengths, white, ((1e-4, 10.0), (0.3, 100.0), of_white))


def tune(
    kernel: Kernel,
    places: Floats,
    residuals: Floats,
    noise: Floats,
    steps: int,
    most: int = _MOST_ROWS_TO_TUNE,
) -> Kernel:
    """The kernel with the parameters of the largest marginal likelihood that `steps` lead to,
    by `most` of the rows."""
    from scipy.optimize import minimize

    few = slice(None, None, -(-len(places) // most))
    usual = kernel.theta.copy()
    usual[1:-1] = math.log(_USUAL_LENGTH)

    def penalised(theta: Floats) -> tuple[float, Floats]:
        trial = replace(kernel, theta=theta)
        value, slope = log_likelihood(trial, places[few], residuals[few], noise[few])
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
