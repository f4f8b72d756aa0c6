"""Convolutions whose kernels are no squares (1x7, 3x5), between those whose kernels are, and
poolings of whole maps that are no squares (7x9), between those of maps that are.

An `OpSpec` has one kernel size. What a kernel of `area` pixels takes lies, by its area, on the line
between the next smaller and the next larger odd square: its multiply-accumulates and weights do
exactly, its activations are the same. A pooling of a map reads as many bytes as the map has, which
any square may have, odd or even.
"""

import math
from dataclasses import dataclass, replace

from latency.operators.spec import OpSpec

DOUBT = 0.4
"""Half the interval of what a non-square kernel takes, as a share of it, is this beside that of the
squares: runtimes have code of its own for some shapes, and for others none."""


@dataclass(frozen=True)
class Between:
    """Where on the line from a kernel (share 0) to `other` (share 1) a non-square one is."""

    other: OpSpec
    share: float

    def mix(self, near: float, far: float) -> float:
        """What is at its place, of what is at both ends."""
        return (1 - self.share) * near + self.share * far


def nearest_side(area: int) -> int:
    """The side of the odd square that is nearest to an area.

    >>> nearest_side(7), nearest_side(3), nearest_side(15)
    (3, 1, 3)
    """
    return _nearest(area, *_sides(area))


def nearest_map(area: int) -> int:
    """The side of the square that is nearest to an area.

    >>> nearest_map(49), nearest_map(6), nearest_map(7)
    (7, 2, 3)
    """
    least = math.isqrt(area)
    return _nearest(area, least, least + 1)


def _nearest(area: int, least: int, most: int) -> int:
    return least if 2 * area <= least**2 + most**2 else most


def between(op: OpSpec, area: int) -> Between | None:
    """Where a kernel of `area` pixels is from `op`, whose side is `nearest_side(area)`, or a map of
    them from the one that `op` pools, whose side is `nearest_map(area)`; None where it has the same
    area."""
    if area == op.kernel**2:
        return None
    is_map = op.kind == "pool"
    least, most = (math.isqrt(area), math.isqrt(area) + 1) if is_map else _sides(area)
    other = most if op.kernel == least else least
    share = (area - op.kernel**2) / (other**2 - op.kernel**2)
    if is_map:
        return Between(replace(op, height=other, width=other, kernel=other), share)
    return Between(replace(op, kernel=other), share)


def _sides(area: int) -> tuple[int, int]:
    """Of the largest odd square within an area, and of the next one."""
    least = math.isqrt(area)
    least -= 1 - least % 2
    return least, least + 2
