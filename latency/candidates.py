"""`CandidateLatency`: a latency model laid out as a dense matrix over a space's candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency.errors import CoverageError, SpecError
from latency.operators.spec import OpSpec
from latency.prediction import LatencyModel, OpPrediction
from latency.stats import Z95

Block = Sequence[OpSpec | None]
"""The candidates of a searchable block; None is the skipped block (identity)."""

_SUMS = 4096
"""Neighbouring blocks are summed ahead, as one lookup, up to this many combinations."""

_CHUNK = 8192
"""Networks per batch, so that intermediate results stay in the processor's cache."""


@dataclass(frozen=True)
class CandidateLatency:
    """Latency of every network of a space.

    `matrix` (blocks, candidates): ms of each candidate; rows of blocks with fewer candidates end
    in NaN, `counts` (blocks,) says how many are real; of these, NaN is one that cannot run on the
    device. `fixed_ms`: the operators around them.
    """

    fixed_ms: float
    matrix: NDArray[np.float64]
    counts: NDArray[np.int64]

    def predict(self, choices: ArrayLike) -> NDArray[np.float64]:
        """Latency in ms, shape (networks,), of `choices`: int, shape (networks, blocks).

        Raises `SpecError` for choices that are no candidate of their block.
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
        """Neighbouring blocks, and ms of each combination of their candidates, the last block's
        candidate varying fastest."""
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
        """Latency of the fastest network of the space, to the digit as `predict` has it."""
        return float(self.predict(np.nanargmin(self.matrix, axis=1))[0])

    @property
    def slowest_ms(self) -> float:
        """Latency of the slowest network of the space, to the digit as `predict` has it."""
        return float(self.predict(np.nanargmax(self.matrix, axis=1))[0])


def candidate_latency(
    model: LatencyModel,
    blocks: Sequence[Block],
    fixed: Sequence[OpSpec] = (),
    sigmas: float = 0.0,
) -> CandidateLatency:
    """Lay out any latency model over the candidates of `blocks` and the operators around them.

    `sigmas`: how many standard deviations of its prediction each operator counts above its mean.
    Since a sum's deviation is never above the sum of the deviations, however the errors are
    correlated, a network within a budget under such costs is within it at its mean plus as many
    of its own standard deviations.

    Raises `CoverageError` with every operator that the model cannot tell, and `SpecError` where
    a block has no candidates.
    """
    if not all(len(block) for block in blocks):
        raise SpecError("a block without candidates")
    ops = [*fixed, *(op for block in blocks for op in block if op is not None)]
    missing = model.missing(ops)
    if missing:
        raise CoverageError((op.key for op in missing), "the latency model", "measure them first")
    ms = {op: _at(model.predict_op(op), sigmas) for op in dict.fromkeys(ops)}
    return sum_over(ms.__getitem__, blocks, fixed)


def sum_over(
    cost: Callable[[OpSpec], float], blocks: Sequence[Block], fixed: Sequence[OpSpec] = ()
) -> CandidateLatency:
    """Lay out any cost that adds up over operators; a skipped block costs nothing."""
    counts = np.array([len(block) for block in blocks], np.int64)
    matrix = np.full((len(blocks), int(counts.max(initial=0))), np.nan)
    for row, block in enumerate(blocks):
        matrix[row, : len(block)] = [0.0 if op is None else cost(op) for op in block]
    return CandidateLatency(float(sum(map(cost, fixed))), matrix, counts)


def _at(prediction: OpPrediction, sigmas: float) -> float:
    return prediction.ms + sigmas * (prediction.high_ms - prediction.ms) / Z95
