"""Kernels that are not square (1x7) and poolings of whole maps that are not square (7x9): their
latency is interpolated between two squares.

An `OpSpec` has one kernel size. The latency of a kernel of `area` pixels is interpolated linearly,
by its area, between the next smaller and the next larger odd square: multiply-accumulates and
weights are linear in the area, the activations are the same. A pooling reads as many bytes as its
map has, and the sides of its squares may be even.
"""

import math
from dataclasses import dataclass, replace

from latency.operators.spec import OpSpec

DOUBT = 0.4
"""Added to the half interval of an interpolated latency, as a share of it: runtimes have special
code for some shapes and none for others."""


@dataclass(frozen=True)
class Bounds:
    """The second operator to interpolate with, and its share in the result."""

    other: OpSpec
    share: float

    def interpolate(self, near: float, far: float) -> float:
        return (1 - self.share) * near + self.share * far


def nearest_side(area: int, is_map: bool = False) -> int:
    """The side of the square that is nearest to an area: an odd one, except of a map.

    >>> nearest_side(7), nearest_side(3), nearest_side(15), nearest_side(6, is_map=True)
    (3, 1, 3, 2)
    """
    least, most = _sides(area, is_map)
    return least if 2 * area <= least**2 + most**2 else most


def bounds_of(op: OpSpec, area: int) -> Bounds | None:
    """Bounds of a kernel or pooled map of `area` pixels, for which `op` has the nearest square;
    None if `op` has the same area."""
    if area == op.kernel**2:
        return None
    is_map = op.kind == "pool"
    least, most = _sides(area, is_map)
    side = most if op.kernel == least else least
    share = (area - op.kernel**2) / (side**2 - op.kernel**2)
    height, width = (side, side) if is_map else (op.height, op.width)
    return Bounds(replace(op, height=height, width=width, kernel=side), share)


def _sides(area: int, is_map: bool) -> tuple[int, int]:
    """Sides of the largest square within an area, and of the next one."""
    least = math.isqrt(area)
    if is_map:
        return least, least + 1
    least -= 1 - least % 2
    return least, least + 2
