"""Order statistics and intervals, in plain numpy."""

import math

import numpy as np
from numpy.typing import ArrayLike


def median_interval(samples: ArrayLike) -> tuple[float, float]:
    """Median and half the width of its distribution-free 95 % interval.

    The interval lies between two order statistics whose ranks a fair coin decides: the number
    of samples below the true median is binomial(n, 1/2) (David & Nagaraja, Order Statistics,
    2003, section 7.1). Below six samples no such interval exists: the width is infinite.
    """
    ordered = np.sort(np.asarray(samples, float))
    count = len(ordered)
    rank = _lower_rank(count)
    half = (ordered[count - rank] - ordered[rank - 1]) / 2 if rank else math.inf
    return float(np.median(ordered)), float(half)


def _lower_rank(count: int) -> int:
    """Largest r with P(binomial(count, 1/2) < r) <= 2.5 %."""
    tail, rank = 0.0, 0
    while tail + math.comb(count, rank) / 2**count <= 0.025:
        tail += math.comb(count, rank) / 2**count
        rank += 1
    return rank


def coverage_factor(count: int) -> float:
    """How many root-mean-square errors a 95 % interval spans, those of `count` samples known.

    Student's t through the first terms of its Cornish-Fisher expansion about the normal
    distribution (Abramowitz & Stegun, 26.7.5).
    """
    z = 1.959964
    return z + (z**3 + z) / (4 * count) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * count**2)
