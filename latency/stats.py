"""Order statistics and intervals, in plain numpy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

Z95 = 1.959964
"""Half a 95 % interval of a normal distribution, in standard deviations."""

_STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom."""

_MIN_CLUSTER_SIZE = 3
_MIN_CLUSTERS_FOR_MEDIAN = 6


def median_interval(samples: ArrayLike) -> tuple[float, float]:
    """Median and half the width of its distribution-free 95 % interval.

    The interval is between two order statistics: the number of samples below the true median is
    binomial(n, 1/2) (David & Nagaraja, Order Statistics, 2003, section 7.1). It is infinite for
    fewer than six samples.
    """
    ordered = np.sort(np.asarray(samples, float))
    count = len(ordered)
    rank = _lower_rank(count)
    half = (ordered[count - rank] - ordered[rank - 1]) / 2 if rank else math.inf
    return float(np.median(ordered)), float(half)


def clustered_median(clusters: Sequence[ArrayLike]) -> tuple[float, float]:
    """Median of all samples and half its 95 % interval, if samples come in clusters (runs of one
    process) that may differ by more than their samples do.

    The squared half interval of the pooled median plus that of a random effect: Student's t times
    the standard deviation between clusters over the root of their number. The variance between
    clusters is that of their medians, less the share of the scatter within them (1.57 variances
    over the number of samples: the efficiency of the median; Searle, Casella & McCulloch, Variance
    Components, 1992, section 3.6). From six clusters on, the interval of the median of their
    medians is used instead, which a few outlying clusters do not widen. Clusters of fewer than
    three samples are pooled.
    """
    given = [np.asarray(cluster, float) for cluster in clusters]
    arrays = [array for array in given if len(array) >= _MIN_CLUSTER_SIZE]
    if small := [array for array in given if 0 < len(array) < _MIN_CLUSTER_SIZE]:
        arrays.append(np.concatenate(small))
    pooled = np.concatenate(arrays)
    median, half = median_interval(pooled)
    if len(arrays) < 2:
        return median, half
    medians = np.array([np.median(array) for array in arrays])
    if len(arrays) >= _MIN_CLUSTERS_FOR_MEDIAN:
        return median, max(half, median_interval(medians)[1])
    sizes = np.array([len(array) for array in arrays])
    residuals = np.concatenate([array - m for array, m in zip(arrays, medians, strict=True)])
    deviation = 1.4826 * float(np.median(np.abs(residuals)))  # of a normal distribution
    within = deviation * math.sqrt(len(pooled) / max(1, len(pooled) - len(arrays)))
    between = medians.var(ddof=1) - np.mean(1.57 * within**2 / sizes)
    factor = student_t(len(arrays) - 1)
    return median, math.hypot(half, factor * math.sqrt(max(0.0, between) / len(arrays)))


def two_modes(samples: ArrayLike) -> tuple[float, float] | None:
    """The two levels between which samples jump, or None if there is only one.

    There are two if some split of the sorted samples (at least a fifth on each side) has means
    further apart than 3 % and than six standard deviations within the sides (a normal sample
    reaches 2.7 of them, a uniform one 3.5).
    """
    ordered = np.sort(np.asarray(samples, float))
    smallest = max(3, len(ordered) // 5)
    for split in range(smallest, len(ordered) - smallest + 1):
        low, high = ordered[:split], ordered[split:]
        apart = high.mean() - low.mean()
        within = math.sqrt((low.var() * len(low) + high.var() * len(high)) / len(ordered))
        if apart > 0.03 * low.mean() and apart > 6 * within:
            return float(np.median(low)), float(np.median(high))
    return None


def sign_test(differences: ArrayLike) -> float:
    """Two-sided p-value of the sign test; 1 if all differences are zero (Conover, Practical
    Nonparametric Statistics, section 3.4)."""
    values = np.asarray(differences, float)
    above, below = int((values > 0).sum()), int((values < 0).sum())
    count = above + below
    tail = sum(math.comb(count, k) for k in range(max(above, below), count + 1)) / 2**count
    return min(1.0, 2 * tail)


def student_t(freedom: int) -> float:
    """97.5 % quantile of Student's t, for at least one degree of freedom."""
    return _STUDENT_T[freedom - 1] if freedom <= len(_STUDENT_T) else coverage_factor(freedom)


def coverage_factor(count: int) -> float:
    """Half a 95 % interval in root-mean-square errors, if these are of `count` samples.

    Student's t by its Cornish-Fisher expansion (Abramowitz & Stegun, 26.7.5): too small below eight
    samples, where `student_t` is exact.
    """
    z = Z95
    return z + (z**3 + z) / (4 * count) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * count**2)


def _lower_rank(count: int) -> int:
    """Largest r with P(binomial(count, 1/2) < r) <= 2.5 %."""
    tail, rank = 0.0, 0
    while tail + math.comb(count, rank) / 2**count <= 0.025:
        tail += math.comb(count, rank) / 2**count
        rank += 1
    return rank
