"""A search's history as its checkpoints keep it: in columns.

A list of dictionaries is written and read value by value, which takes seconds where a search makes
a hundred thousand architecture steps.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Entry = dict[str, Any]
"""An architecture step: its `step`, `train_loss`, `valid_loss` and `entropy`; by the names of the
budgets, the `expected` cost and the `multiplier`; in some, the `probabilities` of paths."""

_NUMBERS = ("step", "train_loss", "valid_loss", "entropy")
_BY_BUDGET = ("expected", "multiplier")


def in_columns(history: Sequence[Entry]) -> dict[str, Any]:
    """Entries as tensors (entries,) by what they tell, of budgets by their names, too; what only
    some tell, by the numbers of these. All values are kept exactly."""
    columns: dict[str, Any] = {name: _column(history, name) for name in _NUMBERS}
    for what in _BY_BUDGET:
        names = history[0][what] if history else ()
        told = [entry[what] for entry in history]
        columns[what] = {name: _column(told, name) for name in names}
    columns["probabilities"] = {
        number: torch.tensor(entry["probabilities"], dtype=torch.float64)
        for number, entry in enumerate(history)
        if "probabilities" in entry
    }
    return columns


def entries(columns: dict[str, Any]) -> list[Entry]:
    """The entries that columns were made of."""
    told = [columns[name].tolist() for name in _NUMBERS]
    history = [dict(zip(_NUMBERS, row, strict=True)) for row in zip(*told, strict=True)]
    for what in _BY_BUDGET:
        names = tuple(columns[what])
        values = [columns[what][name].tolist() for name in names]
        rows = zip(*values, strict=True) if names else [()] * len(history)
        for entry, row in zip(history, rows, strict=True):
            entry[what] = dict(zip(names, row, strict=True))
    for number, probabilities in columns["probabilities"].items():
        history[number]["probabilities"] = probabilities.tolist()
    return history


def _column(rows: Sequence[Entry], name: str) -> Tensor:
    kind = torch.int64 if name == "step" else torch.float64
    return torch.tensor([row[name] for row in rows], dtype=kind)
