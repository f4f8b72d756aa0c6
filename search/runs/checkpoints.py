"""The checkpoints of a run, and what they belong to."""

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

    Their identity: the plan's budgets, space, data, seed and settings, and the supernet of another
    run if the plan uses one.
    """

    def __init__(self, folder: Path, plan: SearchPlan) -> None:
        self.folder, self.plan = folder, plan
        self.identity = {
            "budgets": {budget.name: budget.asked for budget in plan.budgets if budget.adds_up},
            "space": _named(plan.space),
            "data": plan.data.name,
            "seed": plan.seed,
            "sigmas": plan.sigmas,
            "from": plan.trained and _content(plan.trained),
            **plan.settings.as_dict,
        }

    def of(self, phase: str) -> Checkpoint:
        """The checkpoint of a phase."""
        return Checkpoint(self.folder / f"{phase}.pt", self.identity, may_change=RESUMABLE)

    def taken_over(self, trained: Path) -> dict[str, Any]:
        """The state of another run's checkpoint: of this space, or of the space before a memory
        budget excluded candidates. Raises `UsageError` if that run had another space or other
        data."""
        space, whole = self.plan.space, self.plan.whole
        try:
            return self._state_of(trained, space)
        except UsageError:
            if space == whole:
                raise
            return narrowed(self._state_of(trained, whole), kept_candidates(space, whole))

    def _state_of(self, trained: Path, space: SearchSpace) -> dict[str, Any]:
        try:
            own = self.identity | {"space": _named(space)}
            return Checkpoint(trained, own).load_of("space", "data")
        except UsageError as error:
            reason = str(error).rpartition(";")[0]
            raise UsageError(
                f"{reason}; a supernet can be used only with the data, space, resolution, width "
                "and memory budget that it was trained with, or with less memory"
            ) from None


def _named(space: SearchSpace) -> str:
    """A space with a digest of its candidates at batch 1: targets of different batches share a
    supernet, spaces of one name and other candidates do not."""
    space = space_at(space, 1)
    blocks = (" ".join(op.key if op else "skip" for op in block) for block in space.blocks)
    return f"{space.tag} of candidates {digest([*(op.key for op in space.fixed), *blocks])}"


def _content(trained: Path) -> str:
    with open_file(trained) as file:
        return file_digest(file, blake2b).hexdigest()[:8]


def kept_attempts(
    checkpoint: Checkpoint, space: SearchSpace, budgets: Sequence[Budget]
) -> list[Attempt]:
    """Those that an interrupted run derived with the same costs and limits, if any."""
    kept = checkpoint.load()
    if kept is None:
        return []
    with checkpoint.restoring():
        if kept["costs"] != _costs(budgets):
            return []
        return [_attempt(space, saved) for saved in kept["attempts"]]


def keep_attempts(
    checkpoint: Checkpoint, budgets: Sequence[Budget], attempts: Sequence[Attempt]
) -> None:
    """Write the attempts, with a digest of the costs and limits."""
    saved = [as_dict(attempt) for attempt in attempts]
    checkpoint.save({"costs": _costs(budgets), "attempts": saved})


def as_dict(attempt: Attempt) -> dict[str, Any]:
    """An attempt as a JSON object."""
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
