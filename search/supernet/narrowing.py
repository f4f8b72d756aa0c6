"""A trained supernet of a space, for the same space with fewer candidates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from search.space import SearchSpace

Kept = Sequence[Sequence[int]]
"""The candidates of each block that are kept, by their numbers."""


def kept_candidates(space: SearchSpace, whole: SearchSpace) -> Kept:
    """Which of the candidates of `whole` are those of `space`, block by block."""
    pairs = zip(space.blocks, whole.blocks, strict=True)
    return [[i for i, op in enumerate(theirs) if op in own] for own, theirs in pairs]


def narrowed(state: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """The state of a `search.searcher.SupernetTraining` as it is without the other candidates:
    their weights are left out, and probabilities are those given that one of the kept is taken."""
    history = state["history"]
    probabilities = {
        number: _given(values, kept) for number, values in history["probabilities"].items()
    }
    return {
        **state,
        "supernet": dict(_weights(state["supernet"], kept)),
        "history": {**history, "probabilities": probabilities},
    }


def _weights(supernet: Mapping[str, Tensor], kept: Kept) -> Iterator[tuple[str, Tensor]]:
    for name, value in supernet.items():
        if name == "alpha":
            yield name, _columns(value, kept)
        elif not name.startswith("blocks."):
            yield name, value
        else:
            _, block, candidate, rest = name.split(".", 3)
            if int(candidate) in (numbers := kept[int(block)]):
                yield f"blocks.{block}.{numbers.index(int(candidate))}.{rest}", value


def _columns(values: Tensor, kept: Kept) -> Tensor:
    """(blocks, candidates) of those kept, padded with zeros."""
    chosen = values.new_zeros(len(kept), max(map(len, kept)))
    for row, numbers in enumerate(kept):
        chosen[row, : len(numbers)] = values[row, list(numbers)]
    return chosen


def _given(probabilities: Tensor, kept: Kept) -> Tensor:
    chosen = _columns(probabilities, kept)
    return chosen / chosen.sum(-1, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)
