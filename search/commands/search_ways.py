"""The ways of `lat-search`: search, Pareto front, training from scratch, range of a space.

Each takes the options that it uses, and no others (`search.commands.ways`).
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from latency.errors import LatError, UsageError, extra
from search.commands.options import MOST_NETWORKS
from search.commands.printing import print_front, print_range, print_result, print_trained
from search.commands.report_command import write_or_notice
from search.commands.search_options import (
    PlanOptions,
    check_sigmas,
    load_space,
    parse_budgets,
    planned,
)
from search.commands.training_settings import settings_for
from search.console import notice, progress_bar
from search.result import BudgetOutcome
from search.runs.folder import require_usable, run_folder

if TYPE_CHECKING:
    from search.runs.plan import SearchPlan


def search(*, largest: bool, random_networks: int, **options: Unpack[PlanOptions]) -> None:
    """Search a network, train it, and measure it and its baselines."""
    started = time.monotonic()
    if not options["budget"]:
        raise UsageError("no --budget given; say how long the network may take, e.g. --budget 5ms")
    plan = planned(parse_budgets(options["budget"], options["target"]), options)
    with extra("train"):
        from search.runs.baselines import baselines, largest_network
        from search.runs.certificate import certified
        from search.runs.found_network import find_network
        from search.runs.search_run import SearchRun
    with _claimed(plan, options) as folder:
        run = SearchRun(plan, folder)
        with progress_bar(options["as_json"]) as bar:
            training = run.search(bar)
            found = find_network(run, training, bar)
            result = certified(
                run,
                training,
                found,
                largest=largest_network(run, bar) if largest else None,
                baselines=baselines(run, found.attempt, bar, random_networks),
                started=started,
            )
        result.save(folder / "result.json")
    _after(plan)
    print_result(result, plan.folder, options["as_json"])
    raise_if_over(result.budgets)


def find_pareto_front(*, pareto: int, **options: Unpack[PlanOptions]) -> None:
    """Find `pareto` networks from fastest to slowest out of one supernet."""
    budgets = parse_budgets(options["budget"] or ["100%"], options["target"])
    if not 2 <= pareto <= MOST_NETWORKS:
        raise UsageError(
            f"--pareto {pareto}: a Pareto front has two networks or more, {MOST_NETWORKS} at most"
        )
    plan = planned(budgets, options, pareto)
    with extra("train"):
        from search.runs.front import find_front
        from search.runs.search_run import SearchRun
    with _claimed(plan, options) as folder, progress_bar(options["as_json"]) as bar:
        run = SearchRun(plan, folder)
        front = find_front(run, run.search(bar), pareto, bar)
    _after(plan)
    print_front(front, plan.folder, options["as_json"])
    raise_if_over(front.certified)


def retrain(
    *,
    retrained: str,
    target: str | None,
    data: str,
    resolution: int | None,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    seed: int,
    settings_file: str | None,
    train_steps: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    norm_batch: int | None,
    precision: str | None,
    train_on: str,
    as_json: bool,
) -> None:
    """Train a network from scratch and export it. A `target` may be given, but nothing is
    measured."""
    if out is not None:
        require_usable(out, resume, overwrite, retrained)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.retraining import network_to_train, space_of
        from search.runs.retraining import retrain as train_from_scratch
        from search.training.compute import Compute
        from search.training.distributed import join
    dataset = load_dataset(data)
    network = network_to_train(retrained, resolution, dataset.classes)
    choices = {
        "train_steps": train_steps,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "norm_batch_size": norm_batch,
        "precision": precision,
    }
    space, size = space_of(network), network.input_shape[0]
    settings = settings_for(settings_file, space, size, dataset, choices)
    compute = Compute.on(train_on, settings, join())
    folder = out or Path("runs") / f"retrain-{network.name}"
    with run_folder(folder, resume, overwrite, retrained) as run_in:
        done = train_from_scratch(network, dataset, settings, seed, run_in, as_json, compute)
    print_trained(done, folder, as_json)
    _notice_broken(dataset.broken)


def print_space_range(
    *,
    target: str | None,
    budget: Sequence[str] | None,
    space: str,
    data: str,
    resolution: int | None,
    width: float,
    predicted: bool,
    sigmas: float,
    as_json: bool,
) -> None:
    """Print what the fastest and the slowest network of a space take on the first target; of those
    within a memory budget, where there is one."""
    budgets = parse_budgets(budget or ["100%"], target)
    check_sigmas(sigmas)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.plan import laid_out, resolved, spaces_within
    loaded = load_space(space, resolution, width, load_dataset(data).classes)
    targets = resolved(budgets)
    _, within = spaces_within(budgets, targets, loaded)
    (first,) = laid_out(
        budgets[:1], targets, within, sigmas=sigmas, predicted=predicted, quiet=as_json
    )
    print_range(first.costs, within, as_json)


def _claimed(plan: "SearchPlan", options: PlanOptions) -> AbstractContextManager[Path]:
    """The plan's folder, for this run alone."""
    return run_folder(plan.folder, options["resume"], options["overwrite"], options["trained"])


def _after(plan: "SearchPlan") -> None:
    """Write the report of a run that has ended, and give notice of what happened in it."""
    write_or_notice(plan.folder)
    if plan.as_you_go:
        notice(plan.as_you_go.summary())
    _notice_broken(plan.data.broken)


def _notice_broken(broken: Mapping[str, str]) -> None:
    """A notice of the images of the data set that could not be read, if any."""
    if broken:
        path, why = next(iter(broken.items()))
        notice(f"broken images left out: {len(broken)}, e.g. {path}: {why}")


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
