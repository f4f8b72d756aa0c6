"""Options of commands, by the parameters that they set."""

from pathlib import Path
from typing import Annotated

import typer

from search import spaces
from search.jobs.target_names import known_targets
from search.presets import known as known_settings
from search.settings import MOST_SEED

MOST_NETWORKS = 1000
"""The most networks that a Pareto front or a random search has."""

Target = Annotated[
    str | None,
    typer.Option(
        help="Device card, table, or path to either; cpu if not given.",
        autocompletion=known_targets,
    ),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        help="Latency on the target, e.g. 5ms, 750us; or 50% of the space's range. Several "
        "together: gpu=2ms, params=3M, macs=300M, memory=2MB."
    ),
]
Space = Annotated[
    str,
    typer.Option(
        help=f"Search space: {', '.join(spaces.known())}, or a file of your own.",
        autocompletion=spaces.known,
    ),
]
Data = Annotated[str, typer.Option(help="Data set: digits, imagenet:FOLDER or cifar10:FOLDER.")]
Resolution = Annotated[
    int | None, typer.Option(help="Input resolution; the space's own where not given.")
]
Width = Annotated[float, typer.Option(help="Width multiplier of the space.")]
Out = Annotated[Path | None, typer.Option(help="Folder for the results; runs/... if not given.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in --out.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that is in --out.")]
Seed = Annotated[
    int, typer.Option(min=0, max=MOST_SEED, metavar="<int>", help="Seed of everything random.")
]
SettingsFile = Annotated[
    str | None,
    typer.Option(
        "--settings",
        help="All numbers of the training: proxyless-imagenet, proxyless-cifar, or FILE.toml.",
        autocompletion=known_settings,
    ),
]
Strategy = Annotated[str | None, typer.Option(help="proxyless-g, proxyless-r or evolution.")]
Binarisation = Annotated[
    str | None, typer.Option(help="Gates of an architecture step: two or full.")
]
Penalty = Annotated[str | None, typer.Option(help="lagrangian, add#linear or mul#log.")]
Reward = Annotated[str | None, typer.Option(help="Of proxyless-r: lagrangian, mul or log.")]
Steps = Annotated[int | None, typer.Option(help="Weight steps of the search.")]
TrainSteps = Annotated[int | None, typer.Option(help="Steps of the derived network's training.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak of the weights' learning rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Images per step, of all processes together.")]
NormBatch = Annotated[
    int | None,
    typer.Option(help="Images whose moments a batch norm uses; the whole batch if not given."),
]
Precision = Annotated[str | None, typer.Option(help="float32, bfloat16 or float16 (autocast).")]
TrainOn = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
Trained = Annotated[
    Path | None,
    typer.Option("--from", help="Folder of a run whose trained supernet is used."),
]
Retrain = Annotated[
    str | None,
    typer.Option(
        "--retrain",
        help="Do not search: train this network from scratch (a run's folder, a network.json, "
        "zoo:NAME), and export it.",
    ),
]
Pareto = Annotated[
    int | None,
    typer.Option(
        "--pareto", help="N networks from fastest to slowest, without training them.", metavar="N"
    ),
]
Predicted = Annotated[
    bool,
    typer.Option(
        "--predicted", help="Predict operators that the table is missing, do not measure them."
    ),
]
MeasureAsYouGo = Annotated[
    bool,
    typer.Option(
        "--measure-as-you-go",
        help="Measure during the search, the operators that matter most.",
    ),
]
Sigmas = Annotated[
    float,
    typer.Option(
        metavar="<float>", help="Hold budgets for the mean + this many standard deviations."
    ),
]
Largest = Annotated[
    bool, typer.Option("--largest", help="Also train and measure the space's largest network.")
]
Baselines = Annotated[
    int,
    typer.Option(
        "--baselines",
        min=0,
        max=MOST_NETWORKS,
        metavar="<int>",
        help="Also train and measure MobileNetV2 and the best of N random networks at the same "
        "latency; 0 for none.",
    ),
]
OnlyRange = Annotated[
    bool, typer.Option("--range", help="Print the space's fastest and slowest latency.")
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
