"""Baselines of a search at the same latency: random networks of the space, and MobileNetV2."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency import zoo
from latency.candidates import CandidateLatency
from latency.errors import InfeasibleError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.units import format_ms
from search.settings import SMALL_IMAGES
from search.space import SearchSpace
from search.spaces.staged import divisible

_DRAWS, _ROUNDS = 4096, 16
"""Networks per round, and rounds without a hit after which a band is assumed to be empty."""
_STEEPEST, _BISECTIONS = 1e4, 100
"""Largest tilt, relative to 1 / the largest difference within a block; steps of its bisection."""
_WIDTHS = [percent / 100 for percent in range(5, 401)]


def random_within(
    space: SearchSpace,
    costs: CandidateLatency,
    budget_ms: float,
    count: int,
    generator: np.random.Generator,
    band: float = 0.05,
) -> NDArray[np.int64]:
    """Random networks close to the budget: choices, shape (count, blocks).

    Independent uniform draws among all networks of the space whose predicted latency is between
    (1 - band) * budget and the budget. The band is doubled until it contains a network. Raises
    `InfeasibleError` if no network is within the budget.
    """
    if costs.fastest_ms > budget_ms:
        raise InfeasibleError(
            f"no network of {space.tag} within {format_ms(budget_ms)}: the space reaches from "
            f"{format_ms(costs.fastest_ms)} to {format_ms(costs.slowest_ms)}"
        )
    while band < 1:
        drawn = _within(costs, (1 - band) * budget_ms, budget_ms, count, generator)
        if len(drawn):
            return drawn
        band *= 2
    return np.tile(np.nanargmin(costs.matrix, axis=1), (count, 1))


def _within(
    costs: CandidateLatency,
    low_ms: float,
    high_ms: float,
    count: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """`count` independent uniform draws among the choices with a latency between two bounds; empty
    if no round finds one.

    Exponential tilting, as in importance sampling of rare events (Siegmund, Annals of Statistics
    1976): each block draws its candidates in proportion to exp(-tilt x ms), with the tilt for which
    the expected latency is between the bounds. Accepting draws in proportion to exp(tilt x ms)
    makes them uniform.
    """
    ms = costs.matrix - np.nanmin(costs.matrix, axis=1, keepdims=True)
    tilt = _tilt(ms, (low_ms + min(high_ms, costs.slowest_ms)) / 2 - costs.fastest_ms)
    cumulative = np.cumsum(_tilted(ms, tilt), axis=1)
    kept = np.empty((0, len(ms)), np.int64)
    rounds = 0
    while len(kept) < count and (len(kept) or rounds < _ROUNDS):
        points = generator.random((_DRAWS, len(ms), 1))
        drawn = (cumulative[None, :, :-1] < points).sum(axis=2)
        drawn = np.minimum(drawn, costs.counts - 1)  # rounded shares may sum to less than 1
        drawn_ms = costs.predict(drawn)
        to_bound = tilt * (drawn_ms - (high_ms if tilt > 0 else low_ms))
        accepted = generator.random(_DRAWS) < np.exp(np.minimum(to_bound, 0.0))
        inside = (drawn_ms >= low_ms) & (drawn_ms <= high_ms)
        kept = np.concatenate([kept, drawn[accepted & inside]])
        rounds += 1
    return kept[:count]


def _tilted(ms: NDArray[np.float64], tilt: float) -> NDArray[np.float64]:
    """Probabilities (blocks, candidates) in proportion to exp(-tilt x ms)."""
    logs = np.where(np.isnan(ms), -np.inf, -tilt * ms)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _tilt(ms: NDArray[np.float64], wanted_ms: float) -> float:
    """The tilt with this expected latency, or the steepest one."""
    steepest = _STEEPEST / max(float(np.nanmax(ms)), 1e-300)

    def excess(tilt: float) -> float:
        return float(np.nansum(_tilted(ms, tilt) * np.nan_to_num(ms)) - wanted_ms)

    low, high = -steepest, steepest
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2


def mobilenet_v2_within(
    latency_of: Callable[[NetworkSpec], float],
    budget_ms: float,
    resolution: int,
    classes: int,
    batch: int = 1,
) -> NetworkSpec:
    """The widest MobileNetV2 within the budget, by bisection over width multipliers from 0.05 to 4,
    in which latency is assumed to grow.

    `latency_of`: a network's latency in ms, predicted or measured. On images of up to 64 pixels the
    first two strides are 1, as is usual on CIFAR; only the first, or none, if that is over the
    budget even at the smallest width. Raises `InfeasibleError` if nothing fits.
    """

    def network(width: float, unstrided: int) -> NetworkSpec:
        return mobilenet_v2(width, resolution, classes, batch, unstrided)

    def ms(width: float, unstrided: int) -> float:
        return latency_of(network(width, unstrided))

    for unstrided in (2, 1, 0) if resolution <= SMALL_IMAGES else (0,):
        fitting = bisect_right(_WIDTHS, budget_ms, key=partial(ms, unstrided=unstrided))
        if fitting:
            return network(_WIDTHS[fitting - 1], unstrided)
    raise InfeasibleError(
        f"no MobileNetV2 on {resolution}x{resolution} images is within the budget"
    )


def mobilenet_v2(
    width: float, resolution: int = 224, classes: int = 1000, batch: int = 1, unstrided: int = 0
) -> NetworkSpec:
    """MobileNetV2 (Sandler et al., CVPR 2018) at a width multiplier, with its first `unstrided`
    strides set to 1. As in the paper, a width below 1 does not apply to the last convolution."""
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
