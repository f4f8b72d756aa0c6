"""Reduces a trained supernet to fewer candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from search.space import SearchSpace

Kept = Sequence[Sequence[int]]
"""Indices of the candidates to keep, per block."""


def kept_candidates(space: SearchSpace, whole: SearchSpace) -> Kept:
    """Indices in `whole` of the candidates of `space`, a part of it."""
    pairs = zip(space.blocks, whole.blocks, strict=True)
    return [[i for i, op in enumerate(theirs) if op in own] for own, theirs in pairs]


def narrowed(state: Mapping[str, Any], kept: Kept) -> dict[str, Any]:
    """The state of a `search.searcher.SupernetTraining` without the weights of the other
    candidates; the history's probabilities are renormalised."""
    history, probabilities = state["history"], {}
    for number, values in history["probabilities"].items():
        chosen = _columns(values, kept)
        total = chosen.sum(-1, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)
        probabilities[number] = chosen / total
    supernet = {}
    for name, value in state["supernet"].items():
        if not name.startswith("blocks."):
            supernet[name] = _columns(value, kept) if name == "alpha" else value
            continue
        _, block, candidate, rest = name.split(".", 3)
        if int(candidate) in (numbers := kept[int(block)]):
            supernet[f"blocks.{block}.{numbers.index(int(candidate))}.{rest}"] = value
    history = {**history, "probabilities": probabilities}
    return {**state, "supernet": supernet, "history": history}


def _columns(values: Tensor, kept: Kept) -> Tensor:
    """The kept values of (blocks, candidates), padded with zeros."""
    chosen = values.new_zeros(len(kept), max(map(len, kept)))
    for row, numbers in enumerate(kept):
        chosen[row, : len(numbers)] = values[row, list(numbers)]
    return chosen
