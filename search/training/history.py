"""A search's history in the columns that its checkpoints store.

Saving a list of dictionaries takes seconds for a hundred thousand architecture steps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Entry = dict[str, Any]
"""An architecture step: `step`, `train_loss`, `valid_loss` and `entropy`; `expected` cost and
`multiplier` by budget name; in some, the path `probabilities`."""

_NUMBERS = ("step", "train_loss", "valid_loss", "entropy")
_BY_BUDGET = ("expected", "multiplier")


def in_columns(history: Sequence[Entry]) -> dict[str, Any]:
    """The entries' fields as tensors (entries,), those of budgets by budget name; probabilities by
    entry number. Values are kept exactly."""
    columns: dict[str, Any] = {name: _column(history, name) for name in _NUMBERS}
    for field in _BY_BUDGET:
        rows = [entry[field] for entry in history]
        columns[field] = {name: _column(rows, name) for name in (rows[0] if rows else ())}
    columns["probabilities"] = {
        number: torch.tensor(entry["probabilities"], dtype=torch.float64)
        for number, entry in enumerate(history)
        if "probabilities" in entry
    }
    return columns


def entries(columns: dict[str, Any]) -> list[Entry]:
    """The inverse of `in_columns`."""
    numbers = [columns[name].tolist() for name in _NUMBERS]
    history = [dict(zip(_NUMBERS, row, strict=True)) for row in zip(*numbers, strict=True)]
    for field in _BY_BUDGET:
        values = {name: column.tolist() for name, column in columns[field].items()}
        for number, entry in enumerate(history):
            entry[field] = {name: column[number] for name, column in values.items()}
    for number, probabilities in columns["probabilities"].items():
        history[number]["probabilities"] = probabilities.tolist()
    return history


def _column(rows: Sequence[Entry], name: str) -> Tensor:
    kind = torch.int64 if name == "step" else torch.float64
    return torch.tensor([row[name] for row in rows], dtype=kind)
