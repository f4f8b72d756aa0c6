"""`CandidateLatency`: a latency model laid out as a dense matrix over a space's candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency.errors import CoverageError, SpecError
from latency.model import LatencyModel
from latency.ops import OpSpec

Block = Sequence[OpSpec | None]
"""The candidates of a searchable block; None is the skipped block (identity)."""


@dataclass(frozen=True)
class CandidateLatency:
    """Latency of every network of a space.

    `matrix` (blocks, candidates): ms of each candidate; rows of blocks with fewer candidates end
    in NaN, `counts` (blocks,) says how many are real. `fixed_ms`: the operators around them.
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
        if (choices < 0).any() or (choices >= self.counts).any():
            raise SpecError("a choice names a candidate that its block does not have")
        total = np.full(len(choices), self.fixed_ms)
        for block in range(blocks):
            total += self.matrix[block].take(choices[:, block])
        return total

    @property
    def fastest_ms(self) -> float:
        """Latency of the fastest network of the space."""
        return self.fixed_ms + float(np.nanmin(self.matrix, axis=1).sum())

    @property
    def slowest_ms(self) -> float:
        """Latency of the slowest network of the space."""
        return self.fixed_ms + float(np.nanmax(self.matrix, axis=1).sum())


def candidate_latency(
    model: LatencyModel, blocks: Sequence[Block], fixed: Sequence[OpSpec] = ()
) -> CandidateLatency:
    """Lay out any latency model over the candidates of `blocks` and the operators around them.

    Raises `CoverageError` with every operator that the model cannot tell, and `SpecError` where
    a block has no candidates.
    """
    if not all(len(block) for block in blocks):
        raise SpecError("a block without candidates")
    ops = [*fixed, *(op for block in blocks for op in block if op is not None)]
    lacking = model.missing(ops)
    if lacking:
        raise CoverageError((op.key for op in lacking), "the latency model", "measure them first")
    ms = {op: model.predict_op(op).ms for op in dict.fromkeys(ops)}
    counts = np.array([len(block) for block in blocks], np.int64)
    matrix = np.full((len(blocks), int(counts.max(initial=0))), np.nan)
    for row, block in enumerate(blocks):
        matrix[row, : len(block)] = [0.0 if op is None else ms[op] for op in block]
    return CandidateLatency(sum(ms[op] for op in fixed), matrix, counts)
