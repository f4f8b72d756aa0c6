"""What `lat-search` does: a search, a Pareto front, training from scratch, the range of a space."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from latency.errors import LatError, UsageError, extra
from search import spaces
from search.budget import Budget, BudgetKind
from search.commands.printing import print_front, print_range, print_result, print_trained
from search.commands.report_command import write_or_notice
from search.commands.search_options import RangeOptions, SearchOptions
from search.console import notice, progress_bar
from search.jobs.target_names import require_known
from search.presets import load_settings
from search.result import BudgetOutcome
from search.runs.folder import require_usable, run_folder
from search.settings import SearchSettings, preset

if TYPE_CHECKING:
    from search.runs.plan import SearchPlan
    from search.space import SearchSpace

_STRATEGIES = {
    "binarisation": ("proxyless-g",),
    "reward": ("proxyless-r",),
    "penalty": ("proxyless-g", "proxyless-r"),
}
"""The strategies that use a setting, if not all do."""


def search(options: SearchOptions) -> None:
    """Search a network, train it, and measure it and its baselines."""
    started = time.monotonic()
    if not options.budget:
        raise UsageError("no --budget given; say how long the network may take, e.g. --budget 5ms")
    plan = _planned(parse_budgets(options.budget, options.target), options)
    with extra("train"):
        from search.runs.baselines import baselines
        from search.runs.certificate import certified
        from search.runs.found_network import find_network
        from search.runs.search_run import SearchRun
    with run_folder(plan.folder, options.resume, options.overwrite, options.trained) as folder:
        run = SearchRun(plan, folder)
        with progress_bar(options.as_json) as bar:
            training = run.search(bar)
            found = find_network(run, training, bar)
            result = certified(
                run,
                training,
                found,
                baselines=baselines(run, found.attempt, bar, options.random_networks),
                started=started,
            )
        result.save(folder / "result.json")
    _after(plan)
    print_result(result, plan.folder, options.as_json)
    raise_if_over(result.budgets)


def find_pareto_front(count: int, options: SearchOptions) -> None:
    """Find `count` networks from fastest to slowest with one supernet."""
    plan = _planned(parse_budgets(options.budget or ["100%"], options.target), options)
    with extra("train"):
        from search.runs.front import find_front
        from search.runs.search_run import SearchRun
    with run_folder(plan.folder, options.resume, options.overwrite, options.trained) as folder:
        run = SearchRun(plan, folder)
        with progress_bar(options.as_json) as bar:
            front = find_front(run, run.search(bar), count, bar)
    _after(plan)
    print_front(front, plan.folder, options.as_json)
    raise_if_over(front.certified)


def retrain(name: str, options: SearchOptions) -> None:
    """Train a network from scratch and export it. Nothing is measured."""
    if options.out is not None:
        require_usable(options.out, options.resume, options.overwrite, name)
    with extra("train"):
        from search.data import load_dataset
        from search.runs import retraining
        from search.training.compute import Compute
        from search.training.distributed import join
    data = load_dataset(options.data)
    network = retraining.network_to_train(name, options.resolution, data.classes)
    space, size = retraining.space_of(network), network.input_shape[0]
    settings = settings_for(options, space, size, len(data.train))
    compute = Compute.on(options.train_on, settings, join())
    folder = options.out or Path("runs") / f"retrain-{network.name}"
    with run_folder(folder, options.resume, options.overwrite, name) as claimed:
        trained = retraining.retrain(
            network, data, settings, options.seed, claimed, options.as_json, compute
        )
    print_trained(trained, folder, options.as_json)
    _notice_broken(data.broken)


def print_space_range(options: RangeOptions) -> None:
    """Print the latencies of a space's fastest and slowest network on the first target, within a
    memory budget if there is one."""
    budgets = parse_budgets(options.budget or ["100%"], options.target)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.plan import laid_out, resolved, spaces_within
    space = _load_space(options, load_dataset(options.data).classes)
    targets = resolved(budgets)
    _, within = spaces_within(budgets, targets, space)
    (first,) = laid_out(
        budgets[:1],
        targets,
        within,
        sigmas=options.sigmas,
        predicted=options.predicted,
        quiet=options.as_json,
    )
    print_range(first.costs, within, options.as_json)


def parse_budgets(texts: Sequence[str], target: str | None) -> list[Budget]:
    """The budgets as given: the main target's latency first, then other latencies, sizes, and
    memory last. An amount alone is for `target`, or for "cpu" if that is None. Raises `UsageError`
    for a name given twice or an unknown target, and if no budget is a latency."""
    budgets = [Budget.parse(text, target or "cpu") for text in texts]
    names = [budget.name for budget in budgets]
    latencies = [one.name for one in budgets if one.kind is BudgetKind.LATENCY]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two budgets for {name}; give one")
    for name in latencies:
        require_known(name)
    if not latencies or target not in (None, *names):
        raise UsageError(f"no budget for the target {target or 'cpu'}; give one: --budget 5ms")
    main = target or latencies[0]
    return sorted(
        budgets,
        key=lambda one: (one.kind is not BudgetKind.LATENCY, one.name != main, not one.adds_up),
    )


def default_folder(budget: Budget, space: str, pareto: int | None = None) -> Path:
    """The folder of a run without --out."""
    target = Path(budget.name).stem
    amount = budget.asked if budget.share is not None else f"{budget.limit:.4g}ms"
    what = f"front{pareto}" if pareto else amount
    return Path("runs") / f"{target}-{space}-{what}"


def settings_for(
    options: SearchOptions, space: str, resolution: int, images: int
) -> SearchSettings:
    """The settings of the file, or else the preset of a space, with the settings that `options`
    override. `images`: the number of training images. Raises `UsageError` for an option that the
    strategy does not use."""
    file = options.settings_file
    settings = preset(space, resolution) if file is None else load_settings(file, images)
    settings = settings.with_choices(
        steps=options.steps,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        train_steps=options.train_steps,
        norm_batch_size=options.norm_batch_size,
        precision=options.precision,
        strategy=options.strategy,
        **{name: getattr(options, name) for name in _STRATEGIES},
    )
    for name, strategies in _STRATEGIES.items():
        if getattr(options, name) is not None and settings.strategy not in strategies:
            raise UsageError(f"--{name} needs --strategy {' or '.join(strategies)}")
    return settings


def raise_if_over(outcomes: Sequence[BudgetOutcome]) -> None:
    """`LatError` for the first budget that is not met."""
    for missed in (one for one in outcomes if not one.meets):
        took = missed.measured_high or missed.predicted_high
        over = 100 * (took / missed.limit - 1)
        where = f"on {missed.name}" if missed.unit == "ms" else f"of {missed.name}"
        raise LatError(
            f"the network takes up to {missed.text(took)} {where}, "
            f"{over:.1f} % over the budget of {missed.text(missed.limit)}"
        )


def _planned(budgets: Sequence[Budget], options: SearchOptions) -> "SearchPlan":
    """The plan of a search or of a Pareto front. Raises `UsageError` for invalid options before
    anything is measured."""
    if options.out is not None:  # before torch and the data are loaded
        require_usable(options.out, options.resume, options.overwrite, options.trained)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.plan import plan_search
        from search.training.compute import Compute
        from search.training.distributed import join
    data = load_dataset(options.data)
    space = _load_space(options, data.classes)
    settings = settings_for(options, space.name, space.resolution, len(data.train))
    return plan_search(
        budgets=budgets,
        space=space,
        data=data,
        settings=settings,
        seed=options.seed,
        folder=options.out or default_folder(budgets[0], space.name, options.pareto),
        resume=options.resume,
        overwrite=options.overwrite,
        trained=options.trained,
        compute=Compute.on(options.train_on, settings, join()),
        predicted=options.predicted,
        as_you_go=options.measure_as_you_go,
        sigmas=options.sigmas,
        quiet=options.as_json,
    )


def _load_space(options: RangeOptions, classes: int) -> "SearchSpace":
    given = {} if options.resolution is None else {"resolution": options.resolution}
    return spaces.load(options.space, width=options.width, classes=classes, batch=1, **given)


def _after(plan: "SearchPlan") -> None:
    """Write the report of a finished run, and print what was measured and which images failed."""
    write_or_notice(plan.folder)
    if plan.as_you_go:
        notice(plan.as_you_go.summary())
    _notice_broken(plan.data.broken)


def _notice_broken(broken: Mapping[str, str]) -> None:
    if broken:
        path, why = next(iter(broken.items()))
        notice(f"broken images left out: {len(broken)}, e.g. {path}: {why}")
