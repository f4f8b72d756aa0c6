"""`Family`: operators alike enough for one cost model, and that model.

The logarithm of an operator's latency alone is the logarithm of a roofline (a sum over its inner
layers, `latency.predictors.roofline`) plus a Gaussian process of what that gets wrong
(`latency.predictors.gaussian_process`).
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
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
"""A family of fewer rows has no cost model of its own: all such share one."""
REST = "rest"
REACH = 2.0
"""An operator this many octaves or more (`features.Neighbours`) from all of a table is refused."""

_FOLDS, _STEPS_AGAIN = 6, 8
"""Of rows, and steps by which the kernel is tuned anew without one of them."""
_UNSEEN = 0.1
"""Half an interval (in logarithms) of an operator with a trait that no row has, or without one
that all have, is at least this: no row left out shows its effect."""
_DOUBT = 0.35
"""Half an interval (in logarithms) grows by at least this an octave beyond what is covered."""


@dataclass(frozen=True)
class Family:
    """The cost model of some operators. `process` (a fitted Gaussian process) sees the `varying`
    features of an operator. `noise`: the variance that a measurement adds; `deviations`: how many
    predicted deviations half a 95 % interval takes."""

    near: Neighbours
    roofline: Roofline
    process: GaussianProcess
    varying: NDArray[np.bool_]
    deviations: float
    noise: float

    def log_alone(self, ops: Sequence[OpSpec]) -> tuple[Floats, Floats]:
        """Logarithm of the ms alone, and half its 95 % interval, shape (operators,) each."""
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


def served_by(op: OpSpec, families: Collection[str], fallback: str) -> str:
    """The name of the family whose cost model an operator uses: its own where that has rows."""
    name = kernel_family(op)
    return name if name in families else fallback


def fit_rows(table: LatencyTable, rows: Sequence[OpSpec]) -> Family:
    """The cost model of some rows of a table."""
    ms = np.array([table[op].median_ms for op in rows])
    noise = np.array([_noise(table[op].relative_ci95) for op in rows])
    inside = all(row.kind != "mbconv" for row in rows) and len(rows) >= _OWN_FAMILY
    return fit_family(rows, ms, noise, inside)


def _noise(relative_ci95: float) -> float:
    """Variance of a row's logarithm by its interval."""
    return 1e-8 + (min(relative_ci95, 1.0) / coverage_factor(1000)) ** 2


def fit_family(ops: Sequence[OpSpec], ms: Floats, noise: Floats, inside: bool = False) -> Family:
    """The cost model of operators by their ms alone and the variance of its logarithm, shape
    (operators,) each. `inside`: they are kernels, many, and measured inside networks.

    Intervals are conformal: scores of rows left out, each error in units of its own predicted
    deviation, say how many deviations 95 % take (Papadopoulos, Gammerman & Vovk, 2008; Barber et
    al., Predictive inference with the jackknife+, 2021).
    """
    import scipy.optimize  # noqa: F401  # the limit holds for libraries that are loaded
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # matrices this small take threads longer to share than to compute
        return _fit(ops, ms, noise, inside)


def _fit(ops: Sequence[OpSpec], ms: Floats, noise: Floats, inside: bool) -> Family:
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
    return Family(
        near=near,
        roofline=roofline,
        process=process,
        varying=varying,
        deviations=_conformal(scores),
        noise=float(np.median(noise)),
    )


def _fold_scores(
    process: GaussianProcess, ops: Sequence[OpSpec], ms: Floats, sized: bool
) -> Floats:
    """As `_scores`, of a fold of rows left out at a time, by the kernel of all rows: a single row
    of many moves neither. The inverse's block of a fold is that of its covariance given all other
    rows (Rasmussen & Williams, 2006, section 5.4.2)."""
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
    """Errors of rows left out, in their predicted deviations; of those rows that the rest of the
    table covers. The roofline is fitted anew without each row, the kernel tuned anew without
    each fold of rows: a kernel that has seen a row flatters itself about it."""
    terms, amounts = term_matrix(near.ops, sized)
    residuals = np.log(ms / (amounts @ solve(terms, amounts, ms)[0]))
    folds = np.arange(len(ms)) % _FOLDS
    scores = []
    for fold in range(_FOLDS):
        kept = np.flatnonzero(folds != fold)
        tuned = tune(kernel, features[kept], residuals[kept], noise[kept], _STEPS_AGAIN)
        inverse = np.linalg.inv(tuned.among(features) + np.diag(noise))
        for row in np.flatnonzero(folds == fold).tolist():
            if _farness(near, row) >= REACH:
                continue
            others = np.arange(len(ms)) != row
            costs = solve(terms, amounts[others], ms[others])[0]
            weighted = inverse[row] @ np.log(ms / (amounts @ costs))
            scores.append(abs(weighted) / math.sqrt(inverse[row, row]))
    return np.array(scores)


def _farness(near: Neighbours, row: int) -> float:
    """How far a row is from the nearest other one."""
    far = near.distances(near.ops[row])
    far[row] = math.inf
    return float(far.min())


def _conformal(scores: Floats) -> float:
    """The 95 % quantile of scores as one more of them would have it; by Student's t where they
    are too few to have one, and four where there are hardly any."""
    count = len(scores)
    if count < 3:
        return 4.0
    rank = math.ceil(0.95 * (count + 1))
    if rank <= count:
        return float(np.sort(scores)[rank - 1])
    return max(float(scores.max()), student_t(count) * math.sqrt(np.mean(scores**2)))
