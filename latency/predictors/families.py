"""`Family`: the cost model of similar operators.

The logarithm of an operator's latency alone is the logarithm of a roofline (a sum over its inner
layers, `latency.predictors.roofline`) plus a Gaussian process of the residuals
(`latency.predictors.gaussian_process`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.operators.features import Neighbours, feature_vector, kernel_family
from latency.operators.spec import OpSpec
from latency.predictors.gaussian_process import Floats, GaussianProcess, Kernel, fit_process, tune
from latency.predictors.roofline import Roofline, solve, term_matrix
from latency.stats import coverage_factor, student_t
from latency.tables.table import LatencyTable

FEWEST_ROWS = 5
"""Of a cost model."""
_OWN_FAMILY = 40
"""Families of fewer rows share one cost model."""
REST = "rest"
REACH = 2.0
"""Distance (`features.Neighbours`) from which operators are not predicted."""

_FOLDS, _STEPS_AGAIN = 6, 8
"""Folds of rows, and steps to tune the kernel again without one of them."""
_UNSEEN = 0.1
"""Least half interval (in logarithms) of an operator with a trait that no row has, or without one
that all have."""
_DOUBT = 0.35
"""Least half interval (in logarithms) beyond `REACH`, per octave."""


@dataclass(frozen=True)
class Family:
    """The cost model of some operators. `process` has the `varying` features of an operator as
    input. `noise`: variance of a measurement; `deviations`: half a 95 % interval in predicted
    standard deviations."""

    near: Neighbours
    roofline: Roofline
    process: GaussianProcess
    varying: NDArray[np.bool_]
    deviations: float
    noise: float

    def log_alone(self, ops: Sequence[OpSpec]) -> tuple[Floats, Floats]:
        """Logarithm of the ms alone and half its 95 % interval, shape (operators,) each."""
        middle, covariance = self.posterior(ops)
        half = self.deviations * np.sqrt(np.diag(covariance))
        beyond = np.array([max(0.0, float(self.near.distances(op).min()) - REACH) for op in ops])
        doubt = np.where(beyond > 0, _DOUBT * (1 + beyond), 0.0)
        alike = np.array([feature_vector(op) for op in ops]) == feature_vector(self.near.ops[0])
        unseen = ~(alike | self.varying).all(1)
        doubt = np.maximum(doubt, _UNSEEN * unseen)
        return middle, np.maximum(half, doubt)

    def posterior(self, ops: Sequence[OpSpec]) -> tuple[Floats, Floats]:
        """Mean (operators,) and covariance (operators, operators) of the logarithms."""
        features = np.array([feature_vector(op) for op in ops])[:, self.varying]
        residual, covariance = self.process.predict(features)
        np.fill_diagonal(covariance, np.maximum(np.diag(covariance), 0.0) + self.noise)
        return self.roofline.log_ms(ops) + residual, covariance


def members_of(rows: Sequence[OpSpec]) -> dict[str, list[OpSpec]]:
    """The rows of each family that has a cost model, by its name."""
    sizes = Counter(map(kernel_family, rows))
    members: dict[str, list[OpSpec]] = {}
    for op in rows:
        name = kernel_family(op)
        has_own = sizes[name] >= _OWN_FAMILY and name != "mbconv"
        members.setdefault(name if has_own else REST, []).append(op)
    if 0 < len(members.get(REST, ())) < FEWEST_ROWS:
        members[REST] = list(rows)
    return members


def fit_rows(table: LatencyTable, rows: Sequence[OpSpec]) -> Family:
    """The cost model of some rows of a table."""
    ms = np.array([table[op].median_ms for op in rows])
    ci95 = np.array([min(table[op].relative_ci95, 1.0) for op in rows])
    noise = 1e-8 + (ci95 / coverage_factor(1000)) ** 2
    inside = all(row.kind != "mbconv" for row in rows) and len(rows) >= _OWN_FAMILY
    return fit_family(rows, ms, noise, inside)


def fit_family(ops: Sequence[OpSpec], ms: Floats, noise: Floats, inside: bool = False) -> Family:
    """The cost model of operators from their ms alone and the variance of its logarithm, shape
    (operators,) each. `inside`: they are many kernels, measured inside networks.

    Intervals are conformal: the scores of left-out rows (error over predicted standard deviation)
    say how many deviations 95 % take (Papadopoulos, Gammerman & Vovk, 2008; Barber et al.,
    Predictive inference with the jackknife+, 2021).
    """
    import scipy.optimize  # noqa: F401  # the limit holds for libraries that are loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # these matrices are too small for several threads
        roofline = Roofline.fit(ops, ms)
        features = np.array([feature_vector(op) for op in ops])
        varying = np.ptp(features, axis=0) > 1e-9
        features = features[:, varying]
        process = fit_process(features, np.log(ms) - roofline.log_ms(ops), noise, inside)
        near = Neighbours(ops)
        if inside:
            scores = _fold_scores(process, ops, ms, roofline.sized)
        else:
            scores = _scores(near, ms, roofline.sized, process.kernel, features, noise)
    deviations, usual_noise = _conformal(scores), float(np.median(noise))
    return Family(near, roofline, process, varying, deviations, usual_noise)


def _fold_scores(
    process: GaussianProcess, ops: Sequence[OpSpec], ms: Floats, sized: bool
) -> Floats:
    """As `_scores`, with a fold of rows left out at a time and the kernel of all rows. A fold's
    block of the inverse is the inverse of its covariance given all other rows (Rasmussen &
    Williams, 2006, section 5.4.2)."""
    terms, amounts = term_matrix(ops, sized)
    scores = []
    for fold in range(_FOLDS):
        left_out = np.arange(len(ms)) % _FOLDS == fold
        line = amounts @ solve(terms, amounts[~left_out], ms[~left_out])[0]
        covariance = np.linalg.inv(process.inverse[np.ix_(left_out, left_out)])
        errors = covariance @ (process.inverse[left_out] @ np.log(ms / line))
        scores.append(np.abs(errors) / np.sqrt(np.diag(covariance)))
    return np.concatenate(scores)


def _scores(
    near: Neighbours, ms: Floats, sized: bool, kernel: Kernel, features: Floats, noise: Floats
) -> Floats:
    """Errors of left-out rows that are within reach of another row, in predicted standard
    deviations. The roofline is fitted again without each row, the kernel tuned again without each
    fold of rows."""
    terms, amounts = term_matrix(near.ops, sized)
    residuals = np.log(ms / (amounts @ solve(terms, amounts, ms)[0]))
    folds = np.arange(len(ms)) % _FOLDS
    scores = []
    for fold in range(_FOLDS):
        kept = np.flatnonzero(folds != fold)
        tuned = tune(kernel, features[kept], residuals[kept], noise[kept], _STEPS_AGAIN)
        inverse = np.linalg.inv(tuned.among(features) + np.diag(noise))
        for row in np.flatnonzero(folds == fold).tolist():
            others = np.arange(len(ms)) != row
            if near.distances(near.ops[row]).min(where=others, initial=math.inf) >= REACH:
                continue
            costs = solve(terms, amounts[others], ms[others])[0]
            weighted = inverse[row] @ np.log(ms / (amounts @ costs))
            scores.append(abs(weighted) / math.sqrt(inverse[row, row]))
    return np.array(scores)


def _conformal(scores: Floats) -> float:
    """The conformal 95 % quantile of scores; by Student's t if they are too few for it, and 4 for
    fewer than three."""
    count = len(scores)
    if count < 3:
        return 4.0
    rank = math.ceil(0.95 * (count + 1))
    if rank <= count:
        return float(np.sort(scores)[rank - 1])
    return max(float(scores.max()), student_t(count) * math.sqrt(np.mean(scores**2)))
