"""Latencies of networks on a new device, from ten of them measured there.

Known are the latencies of all networks on other devices (the sources). Log latency on the new
device is a Gaussian process over networks (Rasmussen & Williams, Gaussian Processes for Machine
Learning, 2006) whose covariance is a weighted sum of the kernels in `latency.transfer.similarity`.
Ten points do not determine the weights, so a thousand settings of weights and noise are averaged
by their evidence (R&W, section 5.2), under a prior that is learnt from the sources: each source in
turn is predicted from the others. The task is that of HELP (Lee et al., NeurIPS 2021), without its
training and its reference networks. Plain numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency.errors import SpecError, UsageError
from latency.transfer.similarity import Array, Networks, kernels, numbers, read

_SETTINGS = 1000
_OFFSET = 4.0
"""Prior variance of the mean log latency on the new device, relative to the process's."""
_SHAPE = 1.5
"""Shape of the inverse-gamma prior of the process's variance."""


@dataclass(frozen=True)
class _Settings:
    """`weights` (settings, kernels): each row adds up to one. `noise` (settings,): its variance,
    relative to the process's. `log_prior` (settings,)."""

    weights: Array
    noise: Array
    log_prior: Array


def choose_samples(
    sources_ms: ArrayLike, n: int = 10, seed: int = 0, features: ArrayLike | None = None
) -> NDArray[np.intp]:
    """Choose `n` networks to measure on a new device, the most informative first.

    `sources_ms`: latencies (networks, source devices). `features` (networks, d), optional: operator
    choices one-hot, totals of MACs, bytes and launches. Among a thousand networks drawn with
    `seed`, each chosen network is the one that most reduces the remaining variance, summed over
    these networks (active learning after Cohn, Ghahramani & Jordan, JAIR 1996). Deterministic.

    Raises `SpecError` for latencies or features that are not finite or differ in length, and
    `UsageError` for an `n` above the number of networks.
    """
    known = read(sources_ms, features)
    if not 1 <= n <= len(known.logs):
        raise UsageError(f"`n` is {n}; expected 1 to {len(known.logs)}, the number of networks")
    generator = np.random.default_rng(seed)
    size = min(len(known.logs), max(1000, 2 * n))
    pool = np.sort(generator.choice(len(known.logs), size, replace=False))
    space = kernels(known)
    settings = _Settings(*_drawn(space.names), _prior(known, space.names, 0.2))
    prior = np.exp(settings.log_prior)
    covariance = np.full((size, size), _OFFSET)
    for name, weight in zip(space.names, prior @ settings.weights, strict=True):
        covariance += weight * space.between(name, pool, pool)
    return pool[_most_informative(covariance, max(0.02, float(prior @ settings.noise)), n)]


def few_shot(
    sources_ms: ArrayLike,
    index: ArrayLike,
    target_ms_at_index: ArrayLike,
    features: ArrayLike | None = None,
) -> Array:
    """Latencies in ms, (networks,), of all networks on the new device.

    The networks `index` (n,) were measured there: `target_ms_at_index` (n,) in ms. At least two;
    the published error is for ten. Sources and features are those of `choose_samples`; if sources
    and target differ in kind (a GPU, a phone), the prediction relies on the features. Measured
    networks are predicted like all others.

    Raises `SpecError` for numbers that are not finite or differ in length, and `UsageError` for an
    index that is out of range, repeated, or of fewer than two networks.
    """
    known = read(sources_ms, features)
    rows, target = _labels(index, target_ms_at_index, len(known.logs))
    space = kernels(known)
    settings = _Settings(*_drawn(space.names), _prior(known, space.names))
    logs = _winsorised(target, space.deviation)
    mean = float(logs.mean())
    evidence, solved = _evidence(space.stacked(rows), logs - mean, space.deviation, settings)
    likely = _probabilities(settings.log_prior + evidence)
    predicted = np.full(len(known.logs), mean + _OFFSET * float((likely[:, None] * solved).sum()))
    coefficients = (likely[:, None] * settings.weights).T @ solved
    for name, of_kernel in zip(space.names, coefficients, strict=True):
        predicted += space.between(name, slice(None), rows) @ of_kernel
    return np.exp(predicted)


def _evidence(
    covariances: Array, logs: Array, deviation: float, settings: _Settings
) -> tuple[Array, Array]:
    """Log evidence (settings,) of log latencies (n,), and inverse covariance times these.

    The process's variance is integrated out over its prior: Student's t (R&W, section 9.9).
    """
    count = len(logs)
    evidence, solved = [], []
    for part in np.array_split(np.arange(len(settings.noise)), max(1, count // 20)):
        total = np.tensordot(settings.weights[part], covariances, 1) + _OFFSET
        total += settings.noise[part, None, None] * np.eye(count)
        right = np.broadcast_to(logs[:, None], (len(part), count, 1))
        solution = np.linalg.solve(total, right)[..., 0]
        spread = _SHAPE * deviation**2 + solution @ logs / 2
        _, determinant = np.linalg.slogdet(total)
        evidence.append(-determinant / 2 - (_SHAPE + count / 2) * np.log(spread))
        solved.append(solution)
    return np.concatenate(evidence), np.concatenate(solved)


def _drawn(names: tuple[str, ...]) -> tuple[Array, Array]:
    """Weights (settings, kernels) and noise (settings,): log-normal and sparse; each setting has
    the kernels of the sources as measured, as explained, or both."""
    generator = np.random.default_rng(0)
    shape = (_SETTINGS, len(names))
    weights = np.exp(generator.normal(-2.5, 2, shape))
    weights *= generator.random(shape) < min(1, 4 / max(1, len(names)))
    which = generator.integers(0, 3, _SETTINGS) if "smooth" in names else np.zeros(_SETTINGS)
    for kind, left_out in (("source", 1), ("smooth", 0 if "smooth" in names else 1)):
        for name, level in ((f"{kind} first", 0.0), (kind, -1.0)):
            least = np.exp(generator.normal(level, 1, _SETTINGS))
            if name in names:
                column = weights[:, names.index(name)]
                column[:] = np.where(which == left_out, column, np.maximum(column, least))
    noise = np.exp(generator.uniform(np.log(1e-6), np.log(0.1), _SETTINGS))
    total = weights.sum(1)
    total[total == 0] = 1
    return weights / total[:, None], noise


def _prior(known: Networks, names: tuple[str, ...], doubt: float = 0.1) -> Array:
    """Log prior (settings,): how well a setting predicts a source from the others, averaged over
    sources, mixed with a uniform prior of probability `doubt`.

    Sixty networks per source are predicted; their evidence counts by half.
    """
    uniform = np.full(_SETTINGS, 1 / _SETTINGS)
    if known.logs.shape[1] < 2:
        return np.log(uniform)
    generator = np.random.default_rng(0)
    count = len(known.logs)
    some = known.rows(generator.choice(count, min(count, 1500), replace=False))
    asked = np.arange(min(60, len(some.logs)))
    learnt = []
    for source in range(known.logs.shape[1]):
        logs = some.logs[asked, source]
        space = kernels(some.without(source))
        if np.ptp(logs) > 0 and space.names == names:
            settings = _Settings(*_drawn(names), np.log(uniform))
            evidence, _ = _evidence(
                space.stacked(asked), logs - logs.mean(), space.deviation, settings
            )
            learnt.append(_probabilities(evidence / 2))
    return np.log((1 - doubt) * np.mean(learnt or [uniform], axis=0) + doubt * uniform)


def _most_informative(covariance: Array, noise: float, n: int) -> NDArray[np.intp]:
    """Greedy choice of the `n` rows that leave the least total variance."""
    chosen: list[int] = []
    for _ in range(n):
        variance = np.diagonal(covariance)
        gain = (covariance**2).sum(0) / (variance + noise)
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        column = covariance[:, best]
        covariance = covariance - np.outer(column, column) / (variance[best] + noise)
    return np.array(chosen)


def _winsorised(target_ms: Array, deviation: float) -> Array:
    """Log latencies with outliers clipped."""
    logs = np.log(np.maximum(target_ms, target_ms[target_ms > 0].min()))
    low, high = np.quantile(logs, [0.25, 0.75])
    width = max(high - low, deviation / 2)
    return np.clip(logs, low - 3 * width, high + 4 * width)


def _probabilities(logs: Array) -> Array:
    likely = np.exp(logs - logs.max())
    return likely / likely.sum()


def _labels(index: ArrayLike, target_ms: ArrayLike, count: int) -> tuple[NDArray[np.intp], Array]:
    rows, target = np.asarray(index), numbers(target_ms, "target_ms_at_index", 1)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.shape != target.shape:
        raise SpecError(
            f"`index` {rows.shape} and `target_ms_at_index` {target.shape} must have the same "
            "length, and `index` must be integers"
        )
    if len(rows) < 2 or len(set(rows.tolist())) < len(rows):
        raise UsageError("`index` must name at least two networks, each once")
    if rows.min() < 0 or rows.max() >= count:
        raise UsageError(f"`index` must be between 0 and {count - 1}, the last network")
    if target.min() < 0 or target.max() == 0:
        raise SpecError("`target_ms_at_index` must be latencies in ms, not all of them zero")
    return rows.astype(np.intp), target
