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
from latency.prediction import OpPrediction, Prediction
from latency.predictors.regression import operators_of, out_of_reach
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.commands.options import Extrapolate, InputShape, Json, Target
from search.console import print_table, run
from search.jobs.networks import open_network, read_network_on
from search.jobs.target_tables import table_of


def predict_command(
    network: Annotated[str, typer.Argument(help="An ONNX file, a network.json, or zoo:NAME.")],
    target: Target = "cpu",
    extrapolate: Extrapolate = False,
    input_shape: InputShape = None,
    as_json: Json = False,
) -> None:
    """Predict a network's latency from a target's table, without running it.

    Operators that are missing from the table are predicted from those it has, and marked as
    predicted. An ONNX file is split into the kernels that the target's runtime executes; so is any
    network with operators far from those of the table, if the table has kernels
    (lat-profile --suite kernels).

    Examples:

      lat-predict runs/demo/network.json --target cpu

      lat-predict network.json --target my-phone.csv --json

      lat-predict zoo:mobilenet_v2 --target cpu

      lat-predict model.onnx --target cpu --input-shape 1x3x224x224
    """
    opened = open_network(network, input_shape)
    table = table_of(target)
    spec = read_network_on(
        network,
        table.setting.batch,
        table.fusion_rules,
        input_shape=input_shape,
        precision=table.setting.precision,
        opened=opened,
    )
    if not spec.kernels and table.fusion is not None and out_of_reach(table, spec.parts):
        spec = network_kernels(spec, table.fusion_rules)
    model = fit(table, extrapolate=extrapolate, operators=operators_of(spec))
    try:
        prediction = model.predict(spec)
    except CoverageError as error:
        if not spec.kernels or SUITE in table.validations:
            raise
        raise UsageError(
            f"{len(error.missing)} of the {len(spec.ops)} kernels of {spec.name} are far from "
            f"those of {table.source}: measure kernels: lat-profile --device "
            f"{table.setting.device} --suite {SUITE}"
        ) from None
    if as_json:
        print(json.dumps(_as_dict(prediction, spec, table)))
    else:
        _print(prediction, spec, target)
        for tag in table.transfers:
            print(f"the table of {tag} was not measured: {table.stated_error(tag)}")


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
        {"key": part.op.key, **_latency(part), "source": part.source} for part in prediction.per_op
    ]
    return {
        **_latency(prediction),
        "ops": ops,
        "transferred": table.transfers,
        "warnings": network.warnings,
    }


def _latency(part: Prediction | OpPrediction) -> dict[str, float | None]:
    """A latency with its interval; an open end is None, since JSON has no infinity."""
    high_ms = part.high_ms if math.isfinite(part.high_ms) else None
    return {"latency_ms": part.ms, "low_ms": part.low_ms, "high_ms": high_ms}


def main() -> None:
    run(predict_command, "lat-predict")
