"""`lat-predict`: a network's latency on a target, with interval and operator by operator."""

import json
import math
from typing import Annotated

import typer
from rich.table import Table

from latency import fit
from latency.errors import CoverageError, UsageError
from latency.graphs.fusion import FUSION, SUITE
from latency.graphs.kernels import KernelGraph
from latency.graphs.network_graph import network_kernels
from latency.operators.network import NetworkSpec
from latency.prediction import Prediction
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.console import print_table, run
from search.jobs.networks import open_network, read_network_on
from search.jobs.target_names import is_table, known_targets


def predict_command(
    network: Annotated[
        str,
        typer.Argument(help="An ONNX file, a network.json as lat-search writes it, or zoo:NAME."),
    ],
    target: Annotated[
        str,
        typer.Option(help="Device card, table, or path to either.", autocompletion=known_targets),
    ] = "cpu",
    extrapolate: Annotated[
        bool,
        typer.Option(
            "--extrapolate", help="Predict operators far from all that the table covers, too."
        ),
    ] = False,
    input_shape: Annotated[
        str | None,
        typer.Option(help="Where an ONNX file leaves it open, or of zoo:NAME, as in 1x3x224x224."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Predict a network's latency from a target's table, without running it.

    Operators that the table lacks are predicted from those it has, and said to be. An ONNX file is
    split into the kernels that the target's runtime executes, and so is a network of blocks that
    are far from all in a table with kernels; lat-profile --suite kernels measures what such are
    predicted from.

    Examples:

      lat-predict runs/demo/network.json --target cpu

      lat-predict network.json --target my-phone.csv --json

      lat-predict zoo:mobilenet_v2 --target cpu

      lat-predict model.onnx --target cpu --input-shape 1x3x224x224
    """
    opened = open_network(network, input_shape)
    table = _table(target)
    setting = table.setting
    asked = read_network_on(
        network, setting.batch, table.fusion, input_shape, setting.precision, opened
    )
    spec = _in_reach(asked, table)
    model = fit(table, extrapolate=extrapolate)
    try:
        prediction = model.predict(spec)
    except CoverageError as error:
        if isinstance(spec, NetworkSpec) or SUITE in table.validations:
            raise
        words = f"lat-profile --device {table.setting.device} --suite {SUITE}"
        raise UsageError(
            f"{table.source} has too few kernels for {spec.name}: measure them: {words} "
            f"(of {len(spec.ops)} kernels, {len(error.missing)} are far from all in it)"
        ) from None
    warnings = spec.warnings if isinstance(spec, KernelGraph) else ()
    if as_json:
        print(
            json.dumps(
                {**_as_dict(prediction), "transferred": table.transfers, "warnings": warnings}
            )
        )
        return
    shown = Table("operator", "latency", "share", "source")
    for part in prediction.per_op:
        share = f"{100 * part.ms / prediction.ms:.1f} %"
        shown.add_row(part.op.key, format_ms(part.ms), share, part.source)
    print_table(shown)
    print(f"{spec.name} on {target}: {prediction}")
    for warning in warnings:
        print(f"approximated: {warning}")
    for space in table.transfers:
        print(f"the table of {space} was not measured: {table.stated_error(space)}")


def _table(target: str) -> LatencyTable:
    """The target's table. For that of a table's name no device is reached for; what reaches for
    them is loaded for others only."""
    if is_table(target):
        return LatencyTable.load(target)
    from search.jobs.targets import resolve

    table = resolve(target).table
    if table is None:
        raise UsageError(
            f"no measurements of {target} yet; measure it: lat-profile --device {target}"
        )
    return table


def _in_reach(network: NetworkSpec | KernelGraph, table: LatencyTable) -> NetworkSpec | KernelGraph:
    """The network itself, where the table reaches all of its operators or has no kernels; else
    the kernels that the table's runtime makes of it."""
    has_kernels = FUSION in table.circumstances
    if isinstance(network, KernelGraph) or not has_kernels or not fit(table).missing(network.parts):
        return network
    return network_kernels(network, table.fusion)


def _as_dict(prediction: Prediction) -> dict[str, object]:
    ops = [
        {
            "key": part.op.key,
            "latency_ms": part.ms,
            "low_ms": part.low_ms,
            "high_ms": _told(part.high_ms),
            "source": part.source,
        }
        for part in prediction.per_op
    ]
    return {
        "latency_ms": prediction.ms,
        "low_ms": prediction.low_ms,
        "high_ms": _told(prediction.high_ms),
        "ops": ops,
    }


def _told(ms: float) -> float | None:
    """None of what is open: JSON has no such number."""
    return ms if math.isfinite(ms) else None


def main() -> None:
    run(predict_command, "lat-predict")
