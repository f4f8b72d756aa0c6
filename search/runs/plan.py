"""`SearchPlan`: everything that a search depends on, checked before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latency.candidates import candidate_latency
from latency.errors import CoverageError, UsageError
from latency.prediction import PREDICTED, LatencyModel
from latency.predictors.regression import fit
from search.budget import Budget, BudgetKind, check_together, size_costs, within_memory
from search.console import notice
from search.data import Dataset
from search.jobs.targets import Target, covered, resolve
from search.runs.folder import require_usable
from search.runs.measuring import AsYouGo
from search.settings import SearchSettings
from search.space import SearchSpace, space_at
from search.strategies.hardware_loss import HardwareTerm
from search.training.compute import ON_CPU, Compute

SEARCH_CHECKPOINT = Path("checkpoint") / "search.pt"
"""The supernet's checkpoint in the folder of a run."""


@dataclass(frozen=True)
class SearchPlan:
    """A search, as planned.

    `budgets`: latencies first, then sizes, and memory; the search uses as much of the first budget
    as it can. `targets`: by the names of the latencies. `space`: for the first target's batch,
    without the candidates that a memory budget excludes; `whole`: with them. `folder`: of the
    results. `trained`: the checkpoint of another run, whose supernet is used instead of training
    one. `as_you_go`: measures operators during the search. `sigmas`: if operators are predicted,
    latencies count as their mean plus this many standard deviations.
    """

    budgets: tuple[Budget, ...]
    targets: Mapping[str, Target]
    space: SearchSpace
    whole: SearchSpace
    settings: SearchSettings
    data: Dataset
    seed: int
    folder: Path
    trained: Path | None = None
    compute: Compute = ON_CPU
    as_you_go: AsYouGo | None = None
    sigmas: float = 2.0


def plan_search(
    *,
    budgets: Sequence[Budget],
    space: SearchSpace,
    data: Dataset,
    settings: SearchSettings,
    seed: int,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
    trained: Path | None = None,
    compute: Compute = ON_CPU,
    predicted: bool = False,
    as_you_go: bool = False,
    sigmas: float = 2.0,
    quiet: bool = False,
) -> SearchPlan:
    """The plan of a search for `budgets`, the main target's latency first, in a space for batch 1.

    The folder is checked first. Then operators that are missing from the targets' tables are
    measured, unless they are `predicted` or measured during the search (`as_you_go`). `trained`:
    the folder of a run whose supernet is used. Raises `LatError` if the search is not possible,
    `InfeasibleError` if no network can meet the budgets.
    """
    require_usable(folder, resume, overwrite, trained)
    supernet = None if trained is None else trained / SEARCH_CHECKPOINT
    if supernet is not None and not supernet.exists():
        raise UsageError(f"{supernet}: no such checkpoint; name the folder of a search")
    targets = resolved(budgets)
    whole, within = spaces_within(budgets, targets, space)
    first = targets[budgets[0].name]
    measuring = AsYouGo(first, space_at(within, first.batch), sigmas) if as_you_go else None
    planned = laid_out(
        budgets,
        targets,
        within,
        sigmas=sigmas,
        predicted=predicted,
        quiet=quiet,
        measuring=measuring,
    )
    _check(planned, settings)
    return SearchPlan(
        budgets=planned,
        targets=targets,
        space=space_at(within, first.batch),
        whole=space_at(whole, first.batch),
        settings=settings,
        data=data,
        seed=seed,
        folder=folder,
        trained=supernet,
        compute=compute,
        as_you_go=measuring,
        sigmas=sigmas,
    )


def _check(budgets: Sequence[Budget], settings: SearchSettings) -> None:
    """Raises `InfeasibleError` if no network can meet the budgets, and `UsageError` if the penalty
    cannot be used with them; a notice for a budget that every network meets."""
    summed = [budget for budget in budgets if budget.adds_up]
    for budget in summed:
        if text := budget.check():
            notice(text)
    check_together(summed)
    HardwareTerm(summed, settings.penalty)


def resolved(budgets: Sequence[Budget]) -> dict[str, Target]:
    """The targets of the latencies among the budgets, by their names."""
    names = [budget.name for budget in budgets if budget.kind is BudgetKind.LATENCY]
    return {name: resolve(name) for name in names}


def spaces_within(
    budgets: Sequence[Budget], targets: Mapping[str, Target], space: SearchSpace
) -> tuple[SearchSpace, SearchSpace]:
    """The space at the largest batch of the targets, and that space without the candidates that a
    memory budget excludes."""
    whole = space_at(space, _largest_batch(targets))
    limits = [budget.limit for budget in budgets if budget.kind is BudgetKind.MEMORY]
    return whole, within_memory(whole, min(limits)) if limits else whole


def _largest_batch(targets: Mapping[str, Target]) -> int:
    return max(target.batch for target in targets.values())


def laid_out(
    budgets: Sequence[Budget],
    targets: Mapping[str, Target],
    space: SearchSpace,
    *,
    sigmas: float,
    predicted: bool,
    quiet: bool,
    measuring: AsYouGo | None = None,
) -> tuple[Budget, ...]:
    """The budgets over the candidates of a space, each latency at its target's batch.

    If any operator is predicted and not measured, all count with `sigmas` standard deviations above
    their mean, and a notice says so."""

    def over_space(budget: Budget) -> Budget:
        if budget.kind is BudgetKind.MEMORY:
            return replace(budget, batch=_largest_batch(targets))
        if budget.kind is not BudgetKind.LATENCY:
            return budget.over(size_costs(space, budget.kind))
        if measuring is not None and budget.name == measuring.target.name:
            return measuring.laid_out(budget)
        target = targets[budget.name]
        own = space_at(space, target.batch)
        model = _latency_model(target, own, predicted, quiet)
        missing = [op for op in own.operators if model.predict_op(op).source == PREDICTED]
        if missing:
            notice(
                f"{target.name}: {len(missing)} of {len(own.operators)} operators are predicted, "
                f"not measured; the budget holds for mean + {sigmas:g} standard deviations"
            )
        costs = candidate_latency(model, own.blocks, own.fixed, sigmas if missing else 0.0)
        return budget.over(costs, model, target.batch)

    return tuple(map(over_space, budgets))


def _latency_model(
    target: Target, space: SearchSpace, predicted: bool, quiet: bool
) -> LatencyModel:
    """The target's table with every operator of the space. If `predicted`, missing operators are
    predicted by regression instead of measured; raises `CoverageError` for those that are too far
    from the table."""
    table = target.table
    if not predicted or table is None or not table.missing(space.operators):
        return covered(target, space, quiet)
    model = fit(table)
    if far := model.missing(space.operators):
        remedy = (
            "they are too far from its operators to be predicted; measure them: profile the space "
            f"{space.tag} on {table.setting.device}"
        )
        raise CoverageError((op.key for op in far), f"the table {table.source}", remedy)
    return model
