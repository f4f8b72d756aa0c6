"""The options of `lat-search`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from latency.errors import UsageError
from search import spaces
from search.commands.options import Json, Resolution, Width
from search.jobs.target_names import known_targets
from search.presets import known as known_settings
from search.settings import (
    MOST_SEED,
    MOST_STEPS,
    Binarisation,
    Penalty,
    Precision,
    Reward,
    Strategy,
)

_MOST_NETWORKS = 1000
_MOST_SIGMAS = 100


@dataclass(frozen=True)
class RangeOptions:
    """Options that the latency range of a space depends on."""

    target: Annotated[
        str | None,
        typer.Option(
            help="Device card, table, or path to either; cpu if not given.",
            autocompletion=known_targets,
        ),
    ] = None
    budget: Annotated[
        list[str] | None,
        typer.Option(
            help="Latency on the target, e.g. 5ms, 750us; or 50% of the space's range. Several "
            "together: gpu=2ms, params=3M, macs=300M, memory=2MB."
        ),
    ] = None
    space: Annotated[
        str,
        typer.Option(
            help=f"Search space: {', '.join(spaces.known())}, or a file of your own.",
            autocompletion=spaces.known,
        ),
    ] = "proxyless"
    data: Annotated[
        str, typer.Option(help="Data set: digits, imagenet:FOLDER or cifar10:FOLDER.")
    ] = "digits"
    resolution: Resolution = None
    width: Width = 1.0
    predicted: Annotated[
        bool,
        typer.Option("--predicted", help="Predict missing operators instead of measuring them."),
    ] = False
    sigmas: Annotated[
        float,
        typer.Option(
            help="With predicted operators, budgets hold for the mean + this many standard "
            "deviations."
        ),
    ] = 2.0
    as_json: Json = False

    def __post_init__(self) -> None:
        if not 0 <= self.sigmas <= _MOST_SIGMAS:
            raise UsageError(f"`sigmas` {self.sigmas:g}: must be from 0 to {_MOST_SIGMAS}")


@dataclass(frozen=True)
class TrainingOptions:
    """Options of every training."""

    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; runs/... if not given.")
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that is in --out.")
    ] = False
    seed: Annotated[
        int, typer.Option(min=0, max=MOST_SEED, metavar="<int>", help="Random seed.")
    ] = 0
    settings_file: Annotated[
        str | None,
        typer.Option(
            "--settings",
            help="Hyperparameters: proxyless-imagenet, proxyless-cifar, or FILE.toml.",
            autocompletion=known_settings,
        ),
    ] = None
    train_steps: Annotated[
        int | None, typer.Option(help="Steps of the final network's training.")
    ] = None
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of the weights.")
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="<int>",
            help="Images per step, of all processes together. The number of steps stays.",
        ),
    ] = None
    norm_batch_size: Annotated[
        int | None,
        typer.Option(
            "--norm-batch",
            min=2,
            metavar="<int>",
            help="Images per group of batch-norm statistics; the whole batch if not given.",
        ),
    ] = None
    precision: Annotated[
        Precision | None,
        typer.Option(metavar="<str>", help="Of autocast: float32, bfloat16 or float16."),
    ] = None
    train_on: Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if available.")] = "auto"


@dataclass(frozen=True)
class SearchOptions(TrainingOptions, RangeOptions):
    """All options of `lat-search`."""

    strategy: Annotated[
        Strategy | None,
        typer.Option(metavar="<str>", help="proxyless-g, proxyless-r or evolution."),
    ] = None
    binarisation: Annotated[
        Binarisation | None, typer.Option(help="Gates per architecture step of proxyless-g.")
    ] = None
    penalty: Annotated[
        Penalty | None, typer.Option(metavar="<str>", help="lagrangian, add#linear or mul#log.")
    ] = None
    reward: Annotated[Reward | None, typer.Option(help="Reward of proxyless-r.")] = None
    steps: Annotated[
        int | None,
        typer.Option(min=2, max=MOST_STEPS, metavar="<int>", help="Weight steps of the search."),
    ] = None
    trained: Annotated[
        Path | None, typer.Option("--from", help="Folder of a run whose trained supernet is used.")
    ] = None
    retrained: Annotated[
        str | None,
        typer.Option(
            "--retrain",
            help="Train this network (a run's folder, a network.json, zoo:NAME) from scratch and "
            "export it, without a search.",
        ),
    ] = None
    pareto: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=_MOST_NETWORKS,
            metavar="N",
            help="Find N networks from fastest to slowest, without training them.",
        ),
    ] = None
    measure_as_you_go: Annotated[
        bool,
        typer.Option(
            "--measure-as-you-go", help="Measure the most important operators during the search."
        ),
    ] = False
    random_networks: Annotated[
        int,
        typer.Option(
            "--baselines",
            min=0,
            max=_MOST_NETWORKS,
            metavar="<int>",
            help="Also train and measure MobileNetV2 and the best of N random networks at the same "
            "latency; 0 for none.",
        ),
    ] = 1
    only_range: Annotated[
        bool, typer.Option("--range", help="Print the space's fastest and slowest latency.")
    ] = False
