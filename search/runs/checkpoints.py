"""The checkpoints of a run, and what they belong to."""

import json
from collections.abc import Sequence
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from latency.errors import UsageError
from latency.files import open_file
from latency.names import digest
from latency.tables.measurement import Measurement
from search.budget import Budget
from search.confirmation import Attempt
from search.runs.plan import SearchPlan
from search.settings import RESUMABLE
from search.space import SearchSpace, space_at
from search.supernet.narrowing import kept_candidates, narrowed
from search.training.checkpoint import Checkpoint


class RunCheckpoints:
    """One for each phase of a run, in `folder`.

    They belong to the plan's budgets, space, data, seed and settings, and to the supernet of
    another run where the plan takes one over.
    """

    def __init__(self, folder: Path, plan: SearchPlan) -> None:
        self.folder = folder
        self._space, self._whole = plan.space, plan.whole
        self.identity = {
            "budgets": {budget.name: budget.asked for budget in plan.budgets if budget.adds_up},
            "space": _named(plan.space),
            "data": plan.data.name,
            "seed": plan.seed,
            "sigmas": plan.sigmas,
            "from": _content(plan.trained),
            **plan.settings.as_dict,
        }

    def of(self, phase: str) -> Checkpoint:
        """The checkpoint of a phase."""
        return Checkpoint(self.folder / f"{phase}.pt", self.identity, may_change=RESUMABLE)

    def taken_over(self, trained: Path) -> dict[str, Any]:
        """The state of the checkpoint of another run: of this space, or of what it was before a
        memory budget took candidates out. Raises `UsageError` where that run was of another space
        or other data."""
        try:
            return self._state_of(trained, self._space)
        except UsageError:
            if self._space == self._whole:
                raise
            state = self._state_of(trained, self._whole)
            return narrowed(state, kept_candidates(self._space, self._whole))

    def _state_of(self, trained: Path, space: SearchSpace) -> dict[str, Any]:
        try:
            own = self.identity | {"space": _named(space)}
            return Checkpoint(trained, own).load_of("space", "data")
        except UsageError as error:
            if not trained.exists():
                raise
            reason = str(error).rpartition(";")[0]
            raise UsageError(
                f"{reason}; a supernet serves the same data, space, resolution and width; one "
                "trained within a memory budget has no candidates that the budget ruled out"
            ) from None


def _named(space: SearchSpace) -> str:
    """A space with a digest of its candidates: a space of the same name and other candidates has
    another supernet; targets of different batches share one."""
    space = space_at(space, 1)
    blocks = (" ".join(op.key if op else "skip" for op in block) for block in space.blocks)
    return f"{space.tag} of candidates {digest([*(op.key for op in space.fixed), *blocks])}"


def _content(trained: Path | None) -> str | None:
    """A digest of the supernet that is taken over; None where none is."""
    if trained is None or not trained.exists():
        return None
    with open_file(trained) as file:
        return file_digest(file, blake2b).hexdigest()[:8]


def kept_attempts(
    checkpoint: Checkpoint, space: SearchSpace, budgets: Sequence[Budget]
) -> list[Attempt]:
    """Those that an interrupted run derived by the same costs and limits, if any."""
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
    """Write what was derived, with a digest of the costs and limits."""
    saved = json.dumps([as_dict(attempt) for attempt in attempts])
    checkpoint.save({"costs": _costs(budgets), "attempts": saved})


def as_dict(attempt: Attempt) -> dict[str, Any]:
    """An attempt as JSON has it."""
    return {
        "choices": list(attempt.choices),
        "predicted": dict(attempt.predicted),
        "measured": {name: row.as_dict() for name, row in attempt.measured.items()},
    }


def _attempt(space: SearchSpace, saved: dict[str, Any]) -> Attempt:
    choices = tuple(saved["choices"])
    measured = {name: Measurement.from_dict(row) for name, row in saved["measured"].items()}
    return Attempt(choices, space.network(choices), saved["predicted"], measured)


def _costs(budgets: Sequence[Budget]) -> str:
    return digest(
        f"{budget.name} {budget.limit} {budget.costs.fixed_ms} {budget.costs.matrix.tolist()}"
        for budget in budgets
    )
