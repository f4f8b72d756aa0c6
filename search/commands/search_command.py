"""`lat-search`: the network that meets a budget on a device."""

from collections.abc import Callable

import typer

from search.commands import options
from search.commands.search_ways import find_pareto_front, print_space_range, retrain, search
from search.commands.ways import arguments_of, refuse_others
from search.console import run
from search.runs.tasks import distributed_main


@distributed_main
def search_command(
    context: typer.Context,
    target: options.Target = None,
    budget: options.Budgets = None,
    space: options.Space = "proxyless",
    data: options.Data = "digits",
    resolution: options.Resolution = None,
    width: options.Width = 1.0,
    out: options.Out = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    settings_file: options.SettingsFile = None,
    strategy: options.Strategy = None,
    binarisation: options.Binarisation = None,
    penalty: options.Penalty = None,
    reward: options.Reward = None,
    steps: options.Steps = None,
    train_steps: options.TrainSteps = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    norm_batch: options.NormBatch = None,
    precision: options.Precision = None,
    train_on: options.TrainOn = "auto",
    trained: options.Trained = None,
    retrained: options.Retrain = None,
    pareto: options.Pareto = None,
    predicted: options.Predicted = False,
    measure_as_you_go: options.MeasureAsYouGo = False,
    sigmas: options.Sigmas = 2.0,
    largest: options.Largest = False,
    random_networks: options.Baselines = 1,
    only_range: options.OnlyRange = False,
    as_json: options.Json = False,
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
    given = dict(locals())  # every option, by the parameter that it sets
    way: Callable[..., None]
    if retrained is not None:
        way, why = retrain, "--retrain trains a network and searches nothing"
    elif only_range:
        way, why = print_space_range, "--range trains nothing"
    elif pareto is not None:
        way, why = find_pareto_front, "--pareto trains no network that it finds"
    else:
        way, why = search, "a search"
    chosen_by = "only_range" if way is print_space_range else None
    refuse_others(context, way, why, chosen_by)
    way(**arguments_of(way, given))


def main() -> None:
    run(search_command, "lat-search")


if __name__ == "__main__":  # as `torchrun -m` starts it
    main()
