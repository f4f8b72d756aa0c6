"""What a search is held against, at the same latency: random networks of the space, and
MobileNetV2 at whatever width fits."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency import zoo
from latency.candidates import CandidateLatency
from latency.errors import UsageError
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.units import format_ms
from search.space import SearchSpace
from search.spaces.inverted import divisible

_BINS = 50
"""Latencies are counted in bins; the budget is this many of them for each block."""
_DRAWS, _PATIENCE = 4096, 16
"""Networks drawn at a time, and how many times before a band is taken for empty."""
_WIDTHS = [percent / 100 for percent in range(5, 401)]
_SMALL = 64
"""Pixels of images that are small."""


def random_within(
    space: SearchSpace,
    costs: CandidateLatency,
    budget_ms: float,
    count: int,
    generator: np.random.Generator,
    band: float = 0.05,
) -> NDArray[np.int64]:
    """Random networks that make use of the budget: choices, shape (count, blocks).

    Independent draws, each uniform among all choices of the space whose predicted latency lies
    between (1 - band) and 1 of the budget. Where none does, the band is doubled downwards until
    one does. Raises `UsageError` where no network is within the budget.
    """
    if costs.fastest_ms > budget_ms:
        raise UsageError(
            f"no network of {space.tag} within {format_ms(budget_ms)}: the space reaches from "
            f"{format_ms(costs.fastest_ms)} to {format_ms(costs.slowest_ms)}"
        )
    while band < 1:
        drawn = _Sampler(costs, (1 - band) * budget_ms, budget_ms, generator).draw(count)
        if len(drawn):
            return drawn
        band *= 2
    return np.tile(np.nanargmin(costs.matrix, axis=1), (count, 1))


class _Sampler:
    """Uniform draws among the choices whose latency lies between two bounds.

    Each candidate's latency above its block's fastest is rounded to bins, up or down at random so
    that it is right on average, and the choices that add up to each bin are counted block by block
    (sampling knapsack solutions by dynamic programming: Dyer, Approximate counting by dynamic
    programming, STOC 2003). Drawn in proportion to the counts, choices are uniform among all whose
    bins may hold latencies between the bounds; to reject those outside the bounds themselves
    leaves them so. Of more than nine blocks, less than one choice in ten million is off by more
    than three bins times the root of their number (Hoeffding, JASA 1963), and never drawn.
    """

    def __init__(
        self,
        costs: CandidateLatency,
        low_ms: float,
        high_ms: float,
        generator: np.random.Generator,
    ) -> None:
        self._costs, self._low_ms, self._high_ms = costs, low_ms, high_ms
        self._generator = generator
        rows = [row[:n] for row, n in zip(costs.matrix, costs.counts, strict=True)]
        bin_ms = high_ms / (_BINS * len(rows))
        exact = [(row - row.min()) / bin_ms for row in rows]
        self._bins = [np.floor(row + generator.random(len(row))).astype(int) for row in exact]
        error = math.ceil(min(len(rows), 3 * math.sqrt(len(rows))))
        first = int((low_ms - costs.fastest_ms) / bin_ms) - error - 1
        last = int((min(high_ms, costs.slowest_ms) - costs.fastest_ms) / bin_ms) + error + 1
        ways = np.zeros(last + 1)
        ways[max(0, first) :] = 1.0
        self._ways = [ways]
        """By block, and one past the last: in how many ways the blocks from it on reach a bin
        between the first and the last one, by the bin that those before it reach; as shares of
        the most, as the number itself may be too large for a float."""
        reached = np.cumsum([0, *(steps.max() for steps in self._bins)])
        for steps, most in zip(reversed(self._bins), reached[-2::-1], strict=True):
            ways = sum((_shifted(self._ways[0], step) for step in steps), np.zeros(last + 1))
            ways[most + 1 :] = 0.0  # what is in reach of the blocks before alone decides the scale
            self._ways.insert(0, ways / (ways.max() or 1.0))

    def draw(self, count: int) -> NDArray[np.int64]:
        """`count` choices; none where none was found between the bounds."""
        kept = np.empty((0, len(self._bins)), np.int64)
        turns = 0
        while len(kept) < count and self._ways[0][0] and (len(kept) or turns < _PATIENCE):
            drawn = self._draw_bins()
            ms = self._costs.predict(drawn)
            kept = np.concatenate([kept, drawn[(ms >= self._low_ms) & (ms <= self._high_ms)]])
            turns += 1
        return kept[:count]

    def _draw_bins(self) -> NDArray[np.int64]:
        """Choices whose bins add up to one between the first and the last, uniformly."""
        reached = np.zeros(_DRAWS, np.int64)
        choices = np.empty((_DRAWS, len(self._bins)), np.int64)
        for block, steps in enumerate(self._bins):
            follow = np.stack([_shifted(self._ways[block + 1], step) for step in steps])
            cumulative = follow.cumsum(axis=0)[:, reached]
            drawn = self._generator.random(_DRAWS) * cumulative[-1]
            choices[:, block] = (cumulative <= drawn).sum(axis=0)
            reached += steps[choices[:, block]]
        return choices


def _shifted(ways: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """`ways` read `step` bins further on; none beyond the last bin."""
    return np.append(ways[step:], np.zeros(min(step, len(ways))))


def mobilenet_v2_within(
    latency_of: Callable[[NetworkSpec], float],
    budget_ms: float,
    resolution: int,
    classes: int,
    batch: int = 1,
) -> NetworkSpec:
    """The widest MobileNetV2 within the budget, found by bisection over its width multipliers
    (from 0.05 to 4), along which latency is taken to grow.

    `latency_of`: of a network in ms, predicted or measured. On images of up to 64 pixels the
    first two strides are 1, as is usual on CIFAR; where even the thinnest such network is over
    the budget, the first alone, and then none. Raises `UsageError` where nothing fits.
    """

    def network(width: float, unstrided: int) -> NetworkSpec:
        return mobilenet_v2(width, resolution, classes, batch, unstrided)

    def ms(width: float, unstrided: int) -> float:
        return latency_of(network(width, unstrided))

    for unstrided in (2, 1, 0) if resolution <= _SMALL else (0,):
        fitting = bisect_right(_WIDTHS, budget_ms, key=partial(ms, unstrided=unstrided))
        if fitting:
            return network(_WIDTHS[fitting - 1], unstrided)
    raise UsageError(
        f"no MobileNetV2 on {resolution}x{resolution} images within {format_ms(budget_ms)}: "
        f"the thinnest takes {format_ms(ms(_WIDTHS[0], 0))}"
    )


def mobilenet_v2(
    width: float, resolution: int = 224, classes: int = 1000, batch: int = 1, unstrided: int = 0
) -> NetworkSpec:
    """MobileNetV2 (Sandler et al., CVPR 2018) at a width multiplier, its first `unstrided`
    strides 1. As in the paper, a width below 1 leaves the last convolution as it is."""
    published = zoo.load("mobilenet_v2").ops
    features = published[-1].in_channels
    ops: list[OpSpec] = []
    size, channels = resolution, 3
    for op in published:
        changes: dict[str, Any] = {
            "height": size,
            "width": size,
            "in_channels": channels,
            "batch": batch,
        }
        if op.kind == "linear":
            changes |= {"height": 1, "width": 1, "out_channels": classes}
        elif op.kind == "pool":
            changes |= {"out_channels": channels, "kernel": size}
        else:
            is_last = op.out_channels == features
            wide = divisible(op.out_channels * (max(width, 1.0) if is_last else width))
            changes["out_channels"] = wide
            if op.stride > 1 and unstrided > 0:
                changes["stride"] = 1
                unstrided -= 1
        ops.append(replace(op, **changes))
        size, _, channels = ops[-1].out_shape
    return NetworkSpec.of(f"mobilenet_v2-w{width:g}", tuple(ops))
