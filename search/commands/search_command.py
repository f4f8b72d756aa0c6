"""`lat-search`: the network that meets a budget on a device."""

from dataclasses import fields

from search.commands.options import refuse_others, with_fields
from search.commands.search_options import RangeOptions, SearchOptions, TrainingOptions
from search.commands.search_ways import find_pareto_front, print_space_range, retrain, search
from search.console import run
from search.runs.tasks import distributed_main


@distributed_main
@with_fields(SearchOptions)
def search_command(options: SearchOptions) -> None:
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
    of_range, of_training, every = (
        {one.name for one in fields(kind)}
        for kind in (RangeOptions, TrainingOptions, SearchOptions)
    )
    if options.retrained is not None:
        used = of_training | {"retrained", "target", "data", "resolution", "as_json"}
        refuse_others(options, used, "--retrain does not search")
        retrain(options.retrained, options)
    elif options.only_range:
        refuse_others(options, of_range | {"only_range"}, "--range does not train")
        print_space_range(options)
    elif options.pareto is not None:
        used = every - {"random_networks"}
        refuse_others(options, used, "--pareto does not train the networks that it finds")
        find_pareto_front(options.pareto, options)
    else:
        search(options)


def main() -> None:
    run(search_command, "lat-search")


if __name__ == "__main__":  # as `torchrun -m` starts it
    main()
