"""`lat-search`: the network that meets a budget on a device."""

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from latency.errors import LatError, UsageError, extra
from search import spaces
from search.budget import AskedBudget
from search.commands.printing import print_front, print_range, print_result, print_trained
from search.commands.report_command import write_or_notice
from search.console import notice, run
from search.jobs.target_names import known_targets
from search.presets import known as known_settings
from search.result import BudgetResult
from search.runs.folder import require_usable, run_folder
from search.runs.goals import parse_budgets
from search.runs.orders import led
from search.settings import MOST_SEED
from search.space import SearchSpace

_MOST_NETWORKS, _MOST_SIGMAS = 1000, 100


@led
def search_command(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Option(
            help="Device card, table, or path to either; cpu if not given.",
            autocompletion=known_targets,
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Latency on the target, e.g. 5ms, 750us; or 50% of the space's range. Several "
            "together: gpu=2ms, params=3M, macs=300M, memory=2MB."
        ),
    ] = None,
    space: Annotated[
        str,
        typer.Option(
            help=f"Search space: {', '.join(spaces.known())}, or a file of your own.",
            autocompletion=spaces.known,
        ),
    ] = "proxyless",
    data: Annotated[
        str, typer.Option(help="Data set: digits, imagenet:FOLDER or cifar10:FOLDER.")
    ] = "digits",
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution; the space's own where not given.")
    ] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of the space.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; runs/... where not given.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in --out.")
    ] = False,
    seed: Annotated[
        int,
        typer.Option(min=0, max=MOST_SEED, metavar="<int>", help="Seed of everything random."),
    ] = 0,
    settings_file: Annotated[
        str | None,
        typer.Option(
            "--settings",
            help="All numbers of the training: proxyless-imagenet, proxyless-cifar, or FILE.toml.",
            autocompletion=known_settings,
        ),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="proxyless-g, proxyless-r or evolution.")
    ] = None,
    binarisation: Annotated[
        str | None, typer.Option(help="Gates of an architecture step: two or full.")
    ] = None,
    penalty: Annotated[str | None, typer.Option(help="lagrangian, add#linear or mul#log.")] = None,
    reward: Annotated[
        str | None, typer.Option(help="Of proxyless-r: lagrangian, mul or log.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Weight steps of the search.")] = None,
    train_steps: Annotated[
        int | None, typer.Option(help="Steps of the derived network's training.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak of the weights' learning rate.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step, of all processes together.")
    ] = None,
    norm_batch: Annotated[
        int | None,
        typer.Option(help="Images whose moments a batch norm goes by; the whole batch otherwise."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16 (autocast).")
    ] = None,
    train_on: Annotated[
        str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")
    ] = "auto",
    trained: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of a run whose trained supernet is taken."),
    ] = None,
    retrained: Annotated[
        str | None,
        typer.Option(
            "--retrain",
            help="Do not search: train this network from scratch (a run's folder, a "
            "network.json, zoo:NAME), and export it.",
        ),
    ] = None,
    pareto: Annotated[
        int | None,
        typer.Option(help="So many networks from fastest to slowest, without training them."),
    ] = None,
    predicted: Annotated[
        bool,
        typer.Option(
            "--predicted", help="Predict operators that the table lacks, do not measure them."
        ),
    ] = False,
    measure_as_you_go: Annotated[
        bool,
        typer.Option(
            "--measure-as-you-go",
            help="Measure during the search, the operators that matter most.",
        ),
    ] = False,
    sigmas: Annotated[
        float,
        typer.Option(
            metavar="<float>", help="Hold budgets for mean + so many standard deviations."
        ),
    ] = 2.0,
    largest: Annotated[
        bool,
        typer.Option("--largest", help="Also train and measure the space's largest network."),
    ] = False,
    random_networks: Annotated[
        int,
        typer.Option(
            "--baselines",
            min=0,
            max=_MOST_NETWORKS,
            metavar="<int>",
            help="Train and measure MobileNetV2 and the best of so many random networks at the "
            "same latency, too; 0 for none.",
        ),
    ] = 1,
    only_range: Annotated[
        bool, typer.Option("--range", help="Print the space's fastest and slowest latency.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Search a network that takes no longer than the budget, as measured on the device.

    Examples:

      lat-search --target cpu --budget 5ms

      lat-search --target cpu --space mini --budget 150us --out runs/mini

      lat-search --budget cpu=5ms --budget gpu=2ms --budget params=4M

      lat-search --target cpu --space mini --pareto 8 --from runs/mini

      lat-search --target gpu --budget 5ms --settings proxyless-imagenet --data imagenet:FOLDER

      lat-search --retrain runs/mini --train-steps 2000 --out runs/mini-trained

      lat-search --target cpu --space mini --range --json

      torchrun --nproc_per_node 4 --no-python lat-search --target gpu --budget 2ms
    """
    started = time.monotonic()
    if retrained is not None:
        others = context.params.keys() - _OF_RETRAINING
        _refuse(context, others, "--retrain trains a network and searches nothing")
        budgets = []
    else:
        budgets = parse_budgets(budget or _whole_range(pareto, only_range), target)
    if pareto is not None:
        _refuse(context, _OF_TRAINED, "--pareto trains no network that it finds")
        if not 2 <= pareto <= _MOST_NETWORKS:
            raise UsageError(
                f"--pareto {pareto}: a front has two networks or more, {_MOST_NETWORKS} at most"
            )
    if not 0 <= sigmas <= _MOST_SIGMAS:
        raise UsageError(f"--sigmas {sigmas:g}: a number from 0 to {_MOST_SIGMAS} is wanted")
    if out is not None:
        require_usable(out, resume, overwrite, trained or retrained)
    with extra("train"):
        from search.data import load_dataset
        from search.runs.baselines import baselines
        from search.runs.checkpoints import supernet_of
        from search.runs.front import find_front
        from search.runs.plan import Asked, SearchPlan, settings_for
        from search.runs.retraining import network_to_train, retrain, space_of
        from search.runs.search_run import SearchJob
        from search.training.compute import Compute
        from search.training.distributed import join
    words: dict[str, Any] = {
        "steps": steps,
        "train_steps": train_steps,
        "strategy": strategy,
        "binarisation": binarisation,
        "penalty": penalty,
        "reward": reward,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "norm_batch_size": norm_batch,
        "precision": precision,
    }
    if retrained is not None:
        dataset = load_dataset(data)
        network = network_to_train(retrained, resolution, dataset.classes)
        suits = space_of(network), network.input_shape[0]
        settings = settings_for(settings_file, *suits, dataset, words)
        folder = out or Path("runs") / f"retrain-{network.name}"
        compute = Compute.on(train_on, settings, join())
        with run_folder(folder, resume, overwrite, retrained) as place:
            done = retrain(network, dataset, settings, seed, place, as_json, compute)
        print_trained(done, folder, as_json)
        _tell_broken(dataset.broken)
        return
    measuring = predicted, measure_as_you_go, sigmas
    asked = Asked(budgets, space, settings_file, words, resolution, width, *measuring)
    supernet = supernet_of(trained) if trained else None
    dataset = load_dataset(data)
    folder = out or Path()

    def find_folder(space: SearchSpace) -> None:
        nonlocal folder
        if out is None and not only_range:
            folder = _default_folder(budgets[0], space.name, pareto)
            require_usable(folder, resume, overwrite, trained)

    plan = SearchPlan.of(asked, dataset, as_json, find_folder)
    if only_range:
        print_range(plan.goals[0].budget.costs, plan.space, as_json)
        return
    plan.check()
    compute = Compute.on(train_on, plan.settings, join())
    certified: Sequence[BudgetResult]
    with run_folder(folder, resume, overwrite, trained) as place:
        job = SearchJob(plan, dataset, seed, place, supernet, compute)
        if pareto is not None:
            front = find_front(job, pareto, as_json)
            certified, show = front.certified, partial(print_front, front)
        else:
            compare = partial(baselines, count=random_networks)
            result = job.run(started, as_json, largest, compare)
            certified, show = result.budgets, partial(print_result, result)
    write_or_notice(folder)
    if plan.as_you_go:
        plan.as_you_go.tell()
    _tell_broken(dataset.broken)
    show(folder, as_json)
    _raise_if_over(certified)


_OF_RETRAINING = {
    *("retrained", "target", "data", "resolution", "out", "resume", "overwrite", "seed"),
    *("settings_file", "train_steps", "learning_rate", "batch_size", "norm_batch", "precision"),
    *("train_on", "as_json", "verbose", "debug", "version"),
}
"""What a training without a search goes by, and a target, which may stand beside it."""
_OF_TRAINED = {"largest", "random_networks"}
"""What is for a search that trains what it finds."""


def _refuse(context: typer.Context, names: Collection[str], why: str) -> None:
    """`UsageError` for options of these parameters that were given."""
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in names and _is_given(context, parameter.name)
    ]
    if given:
        raise UsageError(f"{why}: leave out {', '.join(given)}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _tell_broken(broken: Mapping[str, str]) -> None:
    """How many images of the data set could not be read, if any."""
    if broken:
        path, why = next(iter(broken.items()))
        notice(f"broken images left out: {len(broken)}, e.g. {path}: {why}")


def _whole_range(pareto: int | None, only_range: bool) -> list[str]:
    """The budgets of who gives none: a front and a range may span the whole space."""
    if pareto is None and not only_range:
        raise UsageError("no --budget given; say how long the network may take, e.g. --budget 5ms")
    return ["100%"]


def _default_folder(budget: AskedBudget, space: str, pareto: int | None) -> Path:
    target = Path(str(budget.name)).stem
    what = f"front{pareto}" if pareto else budget.text
    return Path("runs") / f"{target}-{space}-{what}"


def _raise_if_over(certified: Sequence[BudgetResult]) -> None:
    """`LatError` for the first budget that is not met."""
    for broken in (one for one in certified if not one.meets):
        took = broken.measured_high or broken.predicted_high
        over = 100 * (took / broken.limit - 1)
        where = f"on {broken.name}" if broken.unit == "ms" else f"of {broken.name}"
        raise LatError(
            f"the network takes up to {broken.told(took)} {where}, "
            f"{over:.1f} % over the budget of {broken.told(broken.limit)}"
        )


def main() -> None:
    run(search_command, "lat-search")


if __name__ == "__main__":  # as `torchrun -m` starts it
    main()
