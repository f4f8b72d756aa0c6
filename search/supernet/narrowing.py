"""Reduces a trained supernet to fewer candidates."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

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
    history = json.loads(state["history"])
    for entry in history:
        if "probabilities" in entry:
            chosen = _columns(torch.tensor(entry["probabilities"]), kept)
            total = chosen.sum(-1, keepdim=True).clamp_min(torch.finfo(chosen.dtype).tiny)
            entry["probabilities"] = (chosen / total).tolist()
    supernet = {}
    for name, value in state["supernet"].items():
        if not name.startswith("blocks."):
            supernet[name] = _columns(value, kept) if name == "alpha" else value
            continue
        _, block, candidate, rest = name.split(".", 3)
        if int(candidate) in (numbers := kept[int(block)]):
            supernet[f"blocks.{block}.{numbers.index(int(candidate))}.{rest}"] = value
    return {**state, "supernet": supernet, "history": json.dumps(history)}


def _columns(values: Tensor, kept: Kept) -> Tensor:
    """The kept values of (blocks, candidates), padded with zeros."""
    rows = [values[row, list(numbers)] for row, numbers in enumerate(kept)]
    return pad_sequence(rows, batch_first=True)
