"""`lat-predict`: a network's latency on a target, with interval and operator by operator."""

import json
import math
from typing import Annotated

import typer
from rich.table import Table

from latency import fit
from latency.errors import CoverageError, UsageError
from latency.graphs.fusion import SUITE
from latency.graphs.kernels import Network
from latency.graphs.network_graph import network_kernels
from latency.prediction import Prediction
from latency.predictors.regression import out_of_reach
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.commands.target_options import Extrapolate, Json, Target
from search.console import print_table, run
from search.jobs.networks import open_network, read_network_on
from search.jobs.target_tables import table_of

NetworkName = Annotated[
    str,
    typer.Argument(help="An ONNX file, a network.json as lat-search writes it, or zoo:NAME."),
]
InputShape = Annotated[
    str | None,
    typer.Option(help="If an ONNX file leaves it open, or of zoo:NAME, as in 1x3x224x224."),
]


def predict_command(
    network: NetworkName,
    target: Target = "cpu",
    extrapolate: Extrapolate = False,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Predict a network's latency from a target's table, without running it.

    Operators that are missing from the table are predicted from those it has, and marked as
    predicted. An ONNX file is split into the kernels that the target's runtime executes, and so is
    a network of blocks that are far from all in a table with kernels; lat-profile --suite kernels
    measures the kernels that such networks are predicted from.

    Examples:

      lat-predict runs/demo/network.json --target cpu

      lat-predict network.json --target my-phone.csv --json

      lat-predict zoo:mobilenet_v2 --target cpu

      lat-predict model.onnx --target cpu --input-shape 1x3x224x224
    """
    opened = open_network(network, input_shape)
    table = table_of(target)
    setting = table.setting
    spec = read_network_on(
        network,
        setting.batch,
        table.fusion_rules,
        input_shape=input_shape,
        precision=setting.precision,
        opened=opened,
    )
    spec = _covered(spec, table)
    model = fit(table, extrapolate=extrapolate)
    try:
        prediction = model.predict(spec)
    except CoverageError as error:
        if not spec.kernels or SUITE in table.validations:
            raise
        remedy = f"lat-profile --device {table.setting.device} --suite {SUITE}"
        raise UsageError(
            f"{table.source} has too few kernels for {spec.name}: measure them: {remedy} "
            f"(of {len(spec.ops)} kernels, {len(error.missing)} are far from all in it)"
        ) from None
    if as_json:
        print(json.dumps(_as_dict(prediction, spec, table)))
    else:
        _print(prediction, spec, target)
        for tag in table.transfers:
            print(f"the table of {tag} was not measured: {table.stated_error(tag)}")


def _covered(network: Network, table: LatencyTable) -> Network:
    """The network itself, if the table covers all of its operators or has no kernels; else the
    kernels that the table's runtime makes of it."""
    if network.kernels or table.fusion is None or not out_of_reach(table, network.parts):
        return network
    return network_kernels(network, table.fusion_rules)


def _print(prediction: Prediction, network: Network, target: str) -> None:
    """The operators of a prediction, their sum, and what was approximated."""
    shown = Table("operator", "latency", "share", "source")
    for part in prediction.per_op:
        share = f"{100 * part.ms / prediction.ms:.1f} %"
        shown.add_row(part.op.key, format_ms(part.ms), share, part.source)
    print_table(shown)
    print(f"{network.name} on {target}: {prediction}")
    for warning in network.warnings:
        print(f"approximated: {warning}")


def _as_dict(prediction: Prediction, network: Network, table: LatencyTable) -> dict[str, object]:
    ops = [
        {
            "key": part.op.key,
            "latency_ms": part.ms,
            "low_ms": part.low_ms,
            "high_ms": _finite(part.high_ms),
            "source": part.source,
        }
        for part in prediction.per_op
    ]
    return {
        "latency_ms": prediction.ms,
        "low_ms": prediction.low_ms,
        "high_ms": _finite(prediction.high_ms),
        "ops": ops,
        "transferred": table.transfers,
        "warnings": network.warnings,
    }


def _finite(ms: float) -> float | None:
    """None if the interval is open, since JSON has no infinity."""
    return ms if math.isfinite(ms) else None


def main() -> None:
    run(predict_command, "lat-predict")
