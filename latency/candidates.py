"""`CandidateLatency`: a latency model laid out as a dense matrix over a space's candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency.errors import CoverageError, SpecError
from latency.operators.spec import OpSpec
from latency.prediction import LatencyModel
from latency.stats import Z95

Block = Sequence[OpSpec | None]
"""The candidates of a searchable block; None is the skipped block (identity)."""

_SUMS = 4096
"""Adjacent blocks are one lookup up to this many combinations."""

_CHUNK = 8192
"""Networks per batch, so that intermediate results stay in the processor's cache."""


@dataclass(frozen=True)
class CandidateLatency:
    """Latency of every network of a space.

    `matrix` (blocks, candidates): ms of each candidate, NaN for those that cannot run on the device
    and beyond the `counts` (blocks,) of candidates. `fixed_ms`: of the operators around them.
    """

    fixed_ms: float
    matrix: NDArray[np.float64]
    counts: NDArray[np.int64]

    def predict(self, choices: ArrayLike) -> NDArray[np.float64]:
        """Latency in ms, shape (networks,), of `choices`: int, shape (networks, blocks).

        Raises `SpecError` for choices that are not candidates of their block.
        """
        choices = np.atleast_2d(np.asarray(choices))
        blocks = len(self.matrix)
        if choices.shape[1] != blocks or not np.issubdtype(choices.dtype, np.integer):
            raise SpecError(
                f"choices of shape {choices.shape} and type {choices.dtype}; "
                f"expected integers of shape (networks, {blocks})"
            )
        total = np.full(len(choices), self.fixed_ms, np.float64)
        for start in range(0, len(choices), _CHUNK):
            chunk = choices[start : start + _CHUNK].T.astype(np.int64, order="C")
            # Read as unsigned, a negative choice is larger than any count.
            if (chunk.view(np.uint64).max(axis=1) >= self.counts.view(np.uint64)).any():
                raise SpecError("a choice names a candidate that its block does not have")
            for group, sums in self._groups:
                index = chunk[group[0]].copy()
                for block in group[1:]:
                    index *= self.counts[block]
                    index += chunk[block]
                total[start : start + _CHUNK] += sums.take(index)
        return total

    @cached_property
    def _groups(self) -> list[tuple[list[int], NDArray[np.float64]]]:
        """Adjacent blocks, and ms of each combination of their candidates, in C order."""
        groups: list[tuple[list[int], NDArray[np.float64]]] = []
        for block, count in enumerate(self.counts):
            row = self.matrix[block, :count]
            if groups and groups[-1][1].size * count <= _SUMS:
                group, sums = groups[-1]
                groups[-1] = [*group, block], np.add.outer(sums, row).ravel()
            else:
                groups.append(([block], row))
        return groups

    @property
    def fastest_ms(self) -> float:
        """Latency of the fastest network of the space."""
        return float(self.predict(np.nanargmin(self.matrix, axis=1))[0])

    @property
    def slowest_ms(self) -> float:
        """Latency of the slowest network of the space."""
        return float(self.predict(np.nanargmax(self.matrix, axis=1))[0])


def candidate_latency(
    model: LatencyModel,
    blocks: Sequence[Block],
    fixed: Sequence[OpSpec] = (),
    sigmas: float = 0.0,
) -> CandidateLatency:
    """Latencies by a model of the candidates of `blocks` and the `fixed` operators around them.

    `sigmas`: standard deviations that are added to each operator's mean. The standard deviation of
    a sum is at most the sum of the standard deviations, so a network within a budget is within it
    at its mean plus `sigmas` of its own standard deviations.

    Raises `CoverageError` with all missing operators, and `SpecError` for a block without
    candidates.
    """
    if not all(len(block) for block in blocks):
        raise SpecError("a block without candidates")
    ops = [*fixed, *(op for block in blocks for op in block if op is not None)]
    missing = model.missing(ops)
    if missing:
        raise CoverageError((op.key for op in missing), "the latency model", "measure them first")
    ms = {}
    for op in dict.fromkeys(ops):
        predicted = model.predict_op(op)
        ms[op] = predicted.ms + sigmas * (predicted.high_ms - predicted.ms) / Z95
    return sum_over(ms.__getitem__, blocks, fixed)


def sum_over(
    cost: Callable[[OpSpec], float], blocks: Sequence[Block], fixed: Sequence[OpSpec] = ()
) -> CandidateLatency:
    """The same of any additive cost of operators; a skipped block costs nothing."""
    counts = np.array([len(block) for block in blocks], np.int64)
    matrix = np.full((len(blocks), int(counts.max(initial=0))), np.nan)
    for row, block in enumerate(blocks):
        matrix[row, : len(block)] = [0.0 if op is None else cost(op) for op in block]
    return CandidateLatency(float(sum(map(cost, fixed))), matrix, counts)
