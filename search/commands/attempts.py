"""Derived networks as they are kept in a run's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from latency.measurement import Measurement
from search.budget import Budget
from search.checkpoint import Checkpoint
from search.confirmation import Attempt
from search.digests import digest
from search.space import SearchSpace


def kept_attempts(
    checkpoint: Checkpoint, space: SearchSpace, budgets: Sequence[Budget]
) -> list[Attempt]:
    """Those that a broken-off run derived by the same costs and limits; none where there are
    none."""
    kept = checkpoint.load()
    if kept is None:
        return []
    with checkpoint.restoring():
        if kept["costs"] != _costs(budgets):
            return []
        return [_attempt(space, saved) for saved in json.loads(kept["attempts"])]


def keep_attempts(
    checkpoint: Checkpoint, budgets: Sequence[Budget], attempts: Sequence[Attempt]
) -> None:
    """Write what was derived, with what tells the costs and limits apart from others."""
    saved = json.dumps([as_dict(attempt) for attempt in attempts])
    checkpoint.save({"costs": _costs(budgets), "attempts": saved})


def as_dict(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON has it."""
    return {
        "choices": list(attempt.choices),
        "predicted": dict(attempt.predicted),
        "measured": {name: asdict(row) for name, row in attempt.measured.items()},
    }


def _attempt(space: SearchSpace, saved: dict[str, Any]) -> Attempt:
    choices = tuple(saved["choices"])
    measured = {name: Measurement(**row) for name, row in saved["measured"].items()}
    return Attempt(choices, space.network(choices), saved["predicted"], measured)


def _costs(budgets: Sequence[Budget]) -> str:
    return digest(
        f"{budget.name} {budget.limit} {budget.costs.fixed_ms} {budget.costs.matrix.tolist()}"
        for budget in budgets
    )
