"""`lat-search`: the network that meets a budget on a device."""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from latency.candidates import CandidateLatency
from latency.errors import LatError, UsageError, extra
from latency.units import format_ms
from search import spaces
from search.budget import SIZES, AskedBudget, Budget, check_together
from search.commands.console import notice, run
from search.commands.goals import fitting_memory, goal_of, parse_budgets, size_budgets
from search.commands.orders import led
from search.commands.printing import print_front, print_result, print_trained
from search.commands.report_command import write_or_notice
from search.commands.target_names import known_targets
from search.commands.targets import Target, resolve
from search.presets import known as known_settings
from search.presets import load_settings
from search.settings import SearchSettings, preset
from search.space import SearchSpace

RUN_FILES = (
    "checkpoint",
    "result.json",
    "report.html",
    "network.json",
    "model.onnx",
    "model.tflite",
    "model.npz",
    "pareto.json",
    "pareto",
    "retrain.json",
    "tensorboard",
)
"""What a run leaves in its folder."""


@led
def search_command(
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
        str, typer.Option(help="Search space.", autocompletion=spaces.known)
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
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run that is in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
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
        bool, typer.Option(help="Predict operators that the table lacks, do not measure them.")
    ] = False,
    measure_as_you_go: Annotated[
        bool, typer.Option(help="Measure during the search, the operators that matter most.")
    ] = False,
    sigmas: Annotated[
        float, typer.Option(min=0, help="Hold budgets for mean + so many standard deviations.")
    ] = 2.0,
    largest: Annotated[
        bool, typer.Option(help="Also train and measure the space's largest network.")
    ] = False,
    random_networks: Annotated[
        int,
        typer.Option(
            "--baselines",
            min=0,
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
    with extra("train"):
        from search.commands.as_you_go import AsYouGo
        from search.commands.baseline_job import baselines
        from search.commands.front_job import find_front
        from search.commands.retrain_job import network_to_train, retrain
        from search.commands.search_job import SearchJob
        from search.compute import Compute
        from search.data import load_dataset
        from search.distributed import join
        from search.hardware import HardwareTerm
    words: dict[str, Any] = {
        "steps": steps,
        "train_steps": train_steps,
        "strategy": strategy,
        "binarisation": binarisation,
        "penalty": penalty,
        "reward": reward,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "precision": precision,
    }
    if retrained is not None:
        dataset = load_dataset(data)
        network = network_to_train(retrained, resolution, dataset.classes)
        settings = _settings(settings_file, preset(space), len(dataset.train)).with_choices(**words)
        folder = out or Path("runs") / f"retrain-{network.name}"
        compute = Compute.on(train_on, settings.precision, join())
        with _run_folder(folder, resume, overwrite):
            done = retrain(network, dataset, settings, seed, folder, as_json, compute)
            print_trained(done, folder, as_json)
        _tell_broken(dataset.broken)
        return
    asked = parse_budgets(budget or _whole_range(pareto, only_range), target)
    if pareto is not None and pareto < 2:
        raise UsageError(f"--pareto {pareto}: a front has two networks or more")
    targets = {one.name: resolve(one.name) for one in asked if one.name and one.name not in SIZES}
    dataset = load_dataset(data)
    searched = _space(space, targets, dataset.classes, resolution, width, asked)
    usual = preset(searched.name, searched.resolution)
    settings = _settings(settings_file, usual, len(dataset.train)).with_choices(**words)
    as_you_go = None
    if measure_as_you_go:
        as_you_go = AsYouGo(targets[str(asked[0].name)], searched, sigmas)
    goals = [
        as_you_go.goal(one)
        if as_you_go and one is asked[0]
        else goal_of(targets[one.name], searched, one, sigmas, predicted, as_json)
        for one in asked
        if one.name in targets
    ]
    if only_range:
        _print_range(goals[0].budget.costs, searched, as_json)
        return
    sizes = size_budgets(searched, asked)
    budgets = [*(goal.budget for goal in goals), *sizes]
    for one in budgets:
        if text := one.check():
            notice(text)
    check_together(budgets)
    HardwareTerm(budgets, settings.penalty)  # refuses what it cannot be for, before any work
    folder = out or _default_folder(goals[0].budget, searched.name, pareto)
    supernet = trained / "checkpoint" / "search.pt" if trained else None
    compute = Compute.on(train_on, settings.precision, join())
    held_to = goals, sizes, searched, dataset, settings, seed
    job = SearchJob(*held_to, folder, supernet, as_you_go, compute)
    with _run_folder(folder, resume, overwrite):
        if pareto is not None:
            print_front(find_front(job, pareto, as_json), folder, as_json)
            if (folder / "result.json").exists():
                write_or_notice(folder)
            return
        compare = partial(baselines, count=random_networks)
        result = job.run(started, as_json, largest, compare)
        write_or_notice(folder)
    if as_you_go:
        as_you_go.tell()
    _tell_broken(dataset.broken)
    print_result(result, folder, as_json)
    for broken in (one for one in result.budgets if not one.meets):
        took = broken.measured_high or broken.predicted_high
        over = 100 * (took / broken.limit - 1)
        raise LatError(
            f"the network takes up to {format_ms(took)} on {broken.name}, "
            f"{over:.1f} % over the budget of {format_ms(broken.limit)}"
        )


def _settings(name: str | None, usual: SearchSettings, images: int) -> SearchSettings:
    """Those that --settings names, or the usual ones."""
    return usual if name is None else load_settings(name, images)


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


def _space(
    name: str,
    targets: Mapping[str, Target],
    classes: int,
    resolution: int | None,
    width: float,
    asked: Sequence[AskedBudget],
) -> SearchSpace:
    """The space that is searched, for the targets' batch and within the memory budget."""
    batches = {name: target.batch for name, target in targets.items()}
    if len(set(batches.values())) > 1:
        raise UsageError(f"the targets compute batches of different sizes: {batches}")
    options: dict[str, Any] = {
        "width": width,
        "classes": classes,
        "batch": next(iter(batches.values())),
    }
    if resolution is not None:
        options["resolution"] = resolution
    return fitting_memory(spaces.load(name, **options), asked)


def _default_folder(budget: Budget, space: str, pareto: int | None) -> Path:
    target = Path(budget.name).stem
    what = f"front{pareto}" if pareto else f"{budget.limit:.4g}ms"
    return Path("runs") / f"{target}-{space}-{what}"


@contextmanager
def _run_folder(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Claim the folder for one run at a time; `UsageError` where it holds another run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: another search is running in it; give --out") from None
        held = [name for name in RUN_FILES if (folder / name).exists()]
        if held and not (resume or overwrite):
            raise UsageError(
                f"{folder} holds another run ({held[0]}); go on with it by --resume, replace it "
                "by --overwrite, or give another --out"
            )
        if overwrite and not resume:
            for name in held:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


def _print_range(costs: CandidateLatency, space: SearchSpace, as_json: bool) -> None:
    if as_json:
        answer = {
            "space": space.tag,
            "fastest_ms": costs.fastest_ms,
            "slowest_ms": costs.slowest_ms,
        }
        print(json.dumps(answer))
    else:
        fastest, slowest = format_ms(costs.fastest_ms), format_ms(costs.slowest_ms)
        print(f"{space.tag}: {Decimal(space.size):.1e} networks, from {fastest} to {slowest}")


def main() -> None:
    run(search_command, "lat-search")


if __name__ == "__main__":  # as `torchrun -m` starts it
    main()
