"""Coordinates of networks for the kernels of `latency.transfer.few_samples`.

A kernel is linear in its coordinates or a Gaussian of their distance. Coordinates are centred and
have a mean square norm of one:

* latencies on the source devices: the principal components of their logarithms, as measured
  and as explained by the features;
* the choices, one-hot: each alone, and counted over all blocks if blocks have the same candidates;
* costs: latency of a choice on the sources (least squares), added up by candidate, by block, and
  after saturation x / (x + t), which turns a cost in arithmetic into one in launches (between the
  two ends of the roofline of Williams, Waterman & Patterson, CACM 2009);
* totals (MACs, bytes, launches) and their logarithms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency.errors import SpecError

Array = NDArray[np.float64]

_WIDTHS = (0.7, 1.5, 3.0)
"""Length scales of Gaussian kernels, in units of the coordinates' root mean square norm."""
_SATURATION = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Costs, relative to the mean cost of a choice, at which a saturated cost reaches a half."""
_RIDGE = 3.0
"""Penalty of the least squares on choices."""


@dataclass(frozen=True)
class Kernels:
    """Kernels by name: `linear` and `radial` have coordinates, (networks, dimensions) each.
    `deviation`: standard deviation of log latency over networks, on the median source."""

    linear: Mapping[str, Array]
    radial: Mapping[str, Array]
    deviation: float

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.linear, *(f"{name}@{width}" for name in self.radial for width in _WIDTHS))

    def between(
        self, name: str, rows: NDArray[np.intp] | slice, columns: NDArray[np.intp]
    ) -> Array:
        """Covariances (rows, columns) of the named kernel."""
        if name in self.linear:
            coordinates = self.linear[name]
            return coordinates[rows] @ coordinates[columns].T
        base, width = name.split("@")
        left, right = self.radial[base][rows], self.radial[base][columns]
        squares = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
        return np.exp(-0.5 * np.maximum(squares, 0) / float(width) ** 2)

    def stacked(self, index: NDArray[np.intp]) -> Array:
        """Covariances (kernels, n, n) among the networks of `index`."""
        each = [self.between(name, index, index) for name in self.names]
        return np.array(each).reshape(len(each), len(index), len(index))


@dataclass(frozen=True)
class Networks:
    """Networks on the sources: `logs` (networks, sources) of latency, the part that the features
    explain (`smooth`), and the features by kind. `blocks`: columns of `choices` per block, empty
    unless they are one-hot."""

    logs: Array
    smooth: Array | None = None
    choices: Array | None = None
    blocks: tuple[NDArray[np.intp], ...] = ()
    totals: Array | None = None

    def rows(self, index: NDArray[np.intp]) -> "Networks":
        parts = (self.smooth, self.choices, self.totals)
        smooth, choices, totals = (None if part is None else part[index] for part in parts)
        return Networks(self.logs[index], smooth, choices, self.blocks, totals)

    def without(self, source: int) -> "Networks":
        smooth = None if self.smooth is None else np.delete(self.smooth, source, 1)
        return replace(self, logs=np.delete(self.logs, source, 1), smooth=smooth)


def read(sources_ms: ArrayLike, features: ArrayLike | None) -> Networks:
    """Latencies (networks, sources) and features (networks, d), checked and split by kind."""
    latencies = numbers(sources_ms, "sources_ms", 2)
    if latencies.shape[0] < 2 or latencies.shape[1] < 1:
        raise SpecError(f"`sources_ms` is {latencies.shape}: give two networks and a source")
    if latencies.min() < 0:
        raise SpecError("`sources_ms` has negative latencies: give milliseconds")
    logs = _log_latencies(latencies)
    if features is None:
        return Networks(logs)
    table = numbers(features, "features", 2)
    if len(table) != len(latencies):
        raise SpecError(f"`features` has {len(table)} rows for {len(latencies)} networks")
    table = table[:, np.ptp(table, axis=0) > 0]
    binary = np.all((table == 0) | (table == 1), axis=0)
    choices, totals = table[:, binary], None if binary.all() else table[:, ~binary]
    if choices.shape[1] == 0:
        return Networks(logs, totals=totals)
    return Networks(logs, _explained(choices, _centred(logs)), choices, _blocks(choices), totals)


def numbers(values: ArrayLike, name: str, dimensions: int) -> Array:
    """Finite numbers with `dimensions` axes; `SpecError` for the parameter `name` otherwise."""
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise SpecError(f"`{name}` must be numbers: {error}") from None
    if array.ndim != dimensions or not np.isfinite(array).all():
        raise SpecError(
            f"`{name}` of shape {array.shape} must be finite numbers with {dimensions} dimension(s)"
        )
    return array


def kernels(known: Networks) -> Kernels:
    """All kernels of the networks."""
    deviations = known.logs.std(0)
    varying = deviations[deviations > 1e-9]
    linear: dict[str, Array] = {}
    radial: dict[str, Array] = {}
    _add_sources(linear, radial, "source", known.logs)
    if known.smooth is not None:
        _add_sources(linear, radial, "smooth", known.smooth)
    if known.choices is not None:
        _add_choices(linear, radial, known.choices, known)
    if known.totals is not None:
        above = known.totals - known.totals.min(0) + 0.1 * known.totals.std(0)
        both = np.hstack([_standardised(known.totals), _standardised(np.log(above))])
        linear["totals"] = radial["totals"] = _normed(both)
    return Kernels(
        {name: z for name, z in linear.items() if z.any()},
        {name: z for name, z in radial.items() if z.any()},
        float(np.median(varying)) if len(varying) else 0.1,
    )


def _log_latencies(ms: Array) -> Array:
    """Logarithms of latencies (networks, devices) with outliers clipped: networks without a path
    take almost zero on some devices."""
    smallest = ms[ms > 0].min() if (ms > 0).any() else 1.0
    logs = np.log(np.maximum(ms, smallest))
    low, high = np.quantile(logs, [0.25, 0.75], axis=0)
    return np.clip(logs, low - 2.5 * (high - low), high + 4 * (high - low))


def _add_sources(
    linear: dict[str, Array], radial: dict[str, Array], name: str, logs: Array
) -> None:
    """Principal components: the first, all with their variances, and six with their roots."""
    centred = _centred(logs)
    deviations = centred.std(0)
    varying = deviations > 1e-9
    if not varying.any():
        return
    scaled = centred[:, varying] / deviations[varying]
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    kept = singular > 1e-6 * singular[0]
    left, singular = left[:, kept], singular[kept]
    linear[f"{name} first"] = _normed(left[:, :1])
    linear[name] = radial[name] = _normed(left * singular)
    linear[f"{name} roots"] = _normed(left[:, :6] * np.sqrt(singular[:6]))


def _add_choices(
    linear: dict[str, Array], radial: dict[str, Array], choices: Array, known: Networks
) -> None:
    """One-hot choices, and their costs on the sources' mean, relative to the mean latency."""
    blocks = known.blocks
    are_alike = len(blocks) > 1 and len({len(block) for block in blocks}) == 1
    linear["choices"] = radial["choices"] = _normed(choices)
    if are_alike:
        linear["counts"] = radial["counts"] = _normed(_summed(choices, blocks))
    if not blocks:
        return
    relative = np.exp(known.logs)
    relative = relative / relative.mean(0) - 1
    costs = _least_squares(_centred(choices), relative).mean(1)
    for block in blocks:
        costs[block] -= costs[block].min()
    paid = choices * costs
    linear["by block"] = _normed(np.stack([paid[:, block].sum(1) for block in blocks], 1))
    if are_alike:
        linear["by candidate"] = _normed(_summed(paid, blocks))
    if costs.mean() > 0:
        saturated = [choices @ (costs / (costs + t * costs.mean())) for t in _SATURATION]
        linear["saturated"] = _normed(_standardised(np.stack(saturated, 1)))


def _summed(values: Array, blocks: tuple[NDArray[np.intp], ...]) -> Array:
    """Sum over blocks of the same candidates, (networks, candidates)."""
    return np.sum([values[:, block] for block in blocks], axis=0)


def _blocks(choices: Array) -> tuple[NDArray[np.intp], ...]:
    """Groups of columns of which exactly one is chosen: adjacent, or at a constant step."""
    width = choices.shape[1]
    columns = np.arange(width)
    for size in range(2, width // 2 + 1):
        if width % size == 0:
            for grid in (columns.reshape(-1, size), columns.reshape(size, -1).T):
                if all(np.all(choices[:, block].sum(1) == 1) for block in grid):
                    return tuple(grid)
    return _uneven_blocks(choices)


def _uneven_blocks(choices: Array) -> tuple[NDArray[np.intp], ...]:
    """The same for blocks of different sizes; adjacent columns only."""
    blocks: list[NDArray[np.intp]] = []
    start, chosen = 0, np.zeros(len(choices))
    for column in range(choices.shape[1]):
        chosen = chosen + choices[:, column]
        if chosen.max() > 1:
            return ()
        if chosen.min() == 1:
            blocks.append(np.arange(start, column + 1))
            start, chosen = column + 1, np.zeros(len(choices))
    return tuple(blocks) if start == choices.shape[1] else ()


def _explained(choices: Array, targets: Array) -> Array:
    """Targets as explained by choices and, if there are enough networks, by pairs of choices."""
    inputs = choices
    width = choices.shape[1]
    if width * (width - 1) / 2 <= min(1000, len(choices) / 20):
        first, second = np.triu_indices(width, 1)
        pairs = choices[:, first] * choices[:, second]
        inputs = np.hstack([choices, pairs[:, pairs.any(0)]])
    inputs = _centred(inputs)
    return inputs @ _least_squares(inputs, targets)


def _least_squares(inputs: Array, targets: Array) -> Array:
    gram = inputs.T @ inputs + _RIDGE * np.eye(inputs.shape[1])
    return np.asarray(np.linalg.solve(gram, inputs.T @ targets), float)


def _centred(values: Array) -> Array:
    return values - values.mean(0)


def _standardised(values: Array) -> Array:
    centred = _centred(values)
    deviations = centred.std(0)
    return centred[:, deviations > 0] / deviations[deviations > 0]


def _normed(values: Array) -> Array:
    centred = _centred(values)
    norm = np.sqrt((centred**2).sum(1).mean())
    return centred / norm if norm > 1e-12 else np.zeros_like(centred)
