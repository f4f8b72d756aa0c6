"""From the options of `lat-search` to the plan of a search."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from latency.errors import UsageError, extra
from search import spaces
from search.budget import Budget, BudgetKind
from search.commands.training_settings import settings_for
from search.jobs.target_names import require_known
from search.runs.folder import require_usable

if TYPE_CHECKING:
    from search.runs.plan import SearchPlan
    from search.space import SearchSpace

_MOST_SIGMAS = 100


class PlanOptions(TypedDict):
    """The options that a search and a Pareto front are planned by."""

    target: str | None
    budget: Sequence[str] | None
    space: str
    data: str
    resolution: int | None
    width: float
    out: Path | None
    resume: bool
    overwrite: bool
    seed: int
    settings_file: str | None
    strategy: str | None
    binarisation: str | None
    penalty: str | None
    reward: str | None
    steps: int | None
    train_steps: int | None
    learning_rate: float | None
    batch_size: int | None
    norm_batch: int | None
    precision: str | None
    train_on: str
    trained: Path | None
    predicted: bool
    measure_as_you_go: bool
    sigmas: float
    as_json: bool


def planned(
    budgets: Sequence[Budget], options: PlanOptions, pareto: int | None = None
) -> "SearchPlan":
    """The plan of a search for these budgets; `pareto`: the networks of a Pareto front, if it is to
    find one. Raises `UsageError` for invalid options before anything is measured."""
    check_sigmas(options["sigmas"])
    out, trained = options["out"], options["trained"]
    if out is not None:  # before torch is loaded and data are read
        require_usable(out, options["resume"], options["overwrite"], trained)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.plan import plan_search
        from search.training.compute import Compute
        from search.training.distributed import join
    data = load_dataset(options["data"])
    space = load_space(options["space"], options["resolution"], options["width"], data.classes)
    choices = {
        "strategy": options["strategy"],
        "binarisation": options["binarisation"],
        "penalty": options["penalty"],
        "reward": options["reward"],
        "steps": options["steps"],
        "train_steps": options["train_steps"],
        "learning_rate": options["learning_rate"],
        "batch_size": options["batch_size"],
        "norm_batch_size": options["norm_batch"],
        "precision": options["precision"],
    }
    settings = settings_for(options["settings_file"], space.name, space.resolution, data, choices)
    return plan_search(
        budgets=budgets,
        space=space,
        data=data,
        settings=settings,
        seed=options["seed"],
        folder=out or default_folder(budgets[0], space.name, pareto),
        resume=options["resume"],
        overwrite=options["overwrite"],
        trained=trained,
        compute=Compute.on(options["train_on"], settings, join()),
        predicted=options["predicted"],
        as_you_go=options["measure_as_you_go"],
        sigmas=options["sigmas"],
        quiet=options["as_json"],
    )


def check_sigmas(sigmas: float) -> None:
    """Raises `UsageError` for a number of standard deviations that is out of bounds."""
    if not 0 <= sigmas <= _MOST_SIGMAS:
        raise UsageError(f"--sigmas {sigmas:g}: must be a number from 0 to {_MOST_SIGMAS}")


def load_space(name: str, resolution: int | None, width: float, classes: int) -> "SearchSpace":
    """The space of this name or file, for batch 1; of its own resolution where that is None."""
    options: dict[str, Any] = {"width": width, "classes": classes, "batch": 1}
    if resolution is not None:
        options["resolution"] = resolution
    return spaces.load(name, **options)


def default_folder(budget: Budget, space: str, pareto: int | None = None) -> Path:
    """The folder of a run that --out names none for."""
    target = Path(budget.name).stem
    asked = budget.asked if budget.share is not None else f"{budget.limit:.4g}ms"
    what = f"front{pareto}" if pareto else asked
    return Path("runs") / f"{target}-{space}-{what}"


def parse_budgets(texts: Sequence[str], target: str | None) -> list[Budget]:
    """The budgets as given: the main target's latency first, then other latencies, sizes, and
    memory last. An amount alone is of `target`, or of "cpu" if that is None. Raises `UsageError`
    for a name given twice or of no target, and where no budget is a latency."""
    budgets = [Budget.parse(text, target or "cpu") for text in texts]
    names = [budget.name for budget in budgets]
    latencies = [one.name for one in budgets if one.kind is BudgetKind.LATENCY]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two budgets for {name}; give one")
    for name in latencies:
        require_known(name)
    if target is not None and target not in names:
        raise UsageError(f"no budget for the target {target}; give one, e.g. --budget 5ms")
    if not latencies:
        raise UsageError("no latency among the budgets; say how long it may take: --budget 5ms")
    main = target or latencies[0]
    return sorted(budgets, key=lambda one: _rank(one, main))


def _rank(budget: Budget, main: str) -> int:
    if budget.kind is BudgetKind.LATENCY:
        return 0 if budget.name == main else 1
    return 2 if budget.adds_up else 3
