"""`lat-predict`: a network's latency on a target, with interval and operator by operator."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from latency import fit, zoo
from latency.errors import UsageError
from latency.model import Prediction
from latency.network import NetworkSpec
from latency.units import format_ms
from search.commands.console import run
from search.commands.targets import resolve


def predict_command(
    network: Annotated[
        str, typer.Argument(help="A network.json, as lat-search writes it, or zoo:NAME.")
    ],
    target: Annotated[str, typer.Option(help="Device card, table, or path to either.")] = "cpu",
    extrapolate: Annotated[
        bool, typer.Option(help="Predict operators far from all that the table covers, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Predict a network's latency from a target's table, without running it.

    Operators that the table lacks are predicted from those it has, and said to be.

    Examples:

      lat-predict runs/demo/network.json --target cpu

      lat-predict network.json --target my-phone.csv --json

      lat-predict zoo:mobilenet_v2 --target cpu
    """
    table = resolve(target).table
    if table is None:
        raise UsageError(
            f"no measurements of {target} yet; measure it: lat-profile --device {target}"
        )
    spec = _network(network, table.setting.batch)
    is_covered = not table.missing(spec.ops)
    model = table if is_covered else fit(table, extrapolate=extrapolate)
    prediction = model.predict(spec)
    if as_json:
        print(json.dumps({**_as_dict(prediction), "transferred": table.transfers}))
        return
    shown = Table("operator", "latency", "share", "source")
    for part in prediction.per_op:
        share = f"{100 * part.ms / prediction.ms:.1f} %"
        shown.add_row(part.op.key, format_ms(part.ms), share, part.source)
    Console(highlight=False).print(shown)
    print(f"{spec.name} on {target}: {prediction}")
    for space in table.transfers:
        print(f"the table of {space} was not measured: {table.stated_error(space)}")


def _network(name: str, batch: int) -> NetworkSpec:
    """The published network "zoo:NAME", or that of a file."""
    if name.startswith("zoo:"):
        return zoo.load(name.removeprefix("zoo:"), batch=batch)
    return NetworkSpec.load(name)


def _as_dict(prediction: Prediction) -> dict[str, object]:
    ops = [
        {
            "key": part.op.key,
            "latency_ms": part.ms,
            "low_ms": part.low_ms,
            "high_ms": part.high_ms,
            "source": part.source,
        }
        for part in prediction.per_op
    ]
    return {
        "latency_ms": prediction.ms,
        "low_ms": prediction.low_ms,
        "high_ms": prediction.high_ms,
        "ops": ops,
    }


def main() -> None:
    run(predict_command, "lat-predict")
