"""`lat-compare`: networks side by side on a target."""

import json
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from latency.errors import DeviceError
from latency.units import format_ms
from latency.zoo import PUBLISHED
from search.commands.options import Extrapolate, InputShape, Json, Target
from search.console import folded, following, notice, print_table, progress_bar, run
from search.jobs import targets
from search.jobs.comparison import Row, compare, contenders_of
from search.jobs.networks import open_network
from search.spaces.bounds import MOST_RESOLUTION

PUBLISHED_NETWORKS = tuple(f"zoo:{name}" for name in PUBLISHED)
"""MobileNetV2 and the networks that ProxylessNAS published."""


def compare_command(
    networks: Annotated[
        list[str] | None,
        typer.Argument(
            help="zoo:NAME, network.json or ONNX files; MobileNetV2 and the networks that "
            "ProxylessNAS published if not given."
        ),
    ] = None,
    target: Target = "cpu",
    against: Annotated[
        str, typer.Option(help="The network that the others are compared with.")
    ] = PUBLISHED_NETWORKS[0],
    resolution: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_RESOLUTION,
            help="Input resolution of published networks; their own if not given.",
        ),
    ] = None,
    input_shape: InputShape = None,
    extrapolate: Extrapolate = False,
    as_json: Json = False,
) -> None:
    """Measure networks side by side on a target, and compare them with one of them.

    All are measured in every round of the same processes on the device. If it cannot be reached,
    they are predicted from its table. The accuracies are published ones, not measured.

    Examples:

      lat-compare --target cpu

      lat-compare runs/demo/network.json zoo:mobilenet_v2 --target cpu --json

      lat-compare a.onnx b.onnx --against a.onnx --target gpu
    """
    sources = [against, *(networks or PUBLISHED_NETWORKS)]
    opened = {source: open_network(source, input_shape) for source in sources}
    goal = targets.resolve(target)
    contenders = contenders_of(opened, goal, resolution, input_shape)
    if goal.device is None:
        notice(f"the device of {target} cannot be reached: latencies are predicted, not measured")
    elif goal.table is None:
        notice(f"no table of {target} yet: nothing is predicted (lat-profile makes one)")
    with progress_bar(as_json) as bar:
        on_progress = following(bar, visible=goal.device is not None)
        rows = compare(goal, contenders, contenders[0], extrapolate, on_progress)
    if as_json:
        answer = {
            "target": goal.name,
            "measured": goal.device is not None,
            "table": goal.table.source if goal.table else None,
            "against": against,
            "networks": [_as_dict(row, goal.batch) for row in rows],
        }
        print(json.dumps(answer))
    else:
        _print(rows, goal)
    failed = [row.contender.name for row in rows if goal.device and row.measured is None]
    if failed:
        raise DeviceError(f"{len(failed)} of {len(rows)} were not measured: {', '.join(failed)}")


def _print(rows: list[Row], target: targets.Target) -> None:
    shown = Table("network", box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    for column in ("measured", "ratio", "predicted", "MACs", "params", "top-1*"):
        shown.add_column(column, justify="right")
    for row in rows:
        network = row.contender.network
        shown.add_row(
            row.contender.name,
            str(row.measured or ""),
            str(row.ratio or ""),
            format_ms(row.predicted.ms) if row.predicted else "",
            f"{network.macs / target.batch / 1e6:.0f} M",
            f"{network.params / 1e6:.1f} M",
            f"{row.top1[0]:.1f} %" if row.top1 else "",
        )
    print_table(shown)
    measured = target.device or target.table
    assert measured is not None
    setting = measured.setting
    where = f"{setting.hardware}, {setting.runtime}, {setting.threads} thread(s)"
    reference = rows[0].contender.name
    print(folded(f"{target.name}: {where}, batch {setting.batch}; ratio: to {reference}"))
    for row in rows:
        for note in row.notes:
            print(folded(f"{row.contender.name}: {note}"))
    sources = dict.fromkeys(row.top1[1] for row in rows if row.top1)
    if sources:
        print(folded(f"* ImageNet, published, not measured by us: {'; '.join(sources)}"))


def _as_dict(row: Row, batch: int) -> dict[str, object]:
    measured, ratio, predicted = row.measured, row.ratio, row.predicted
    top1, published_in = row.top1 or (None, None)
    return {
        "network": row.contender.source,
        "latency_ms": measured.median_ms if measured else None,
        "low_ms": measured.low_ms if measured else None,
        "high_ms": measured.high_ms if measured else None,
        "ratio": ratio.value if ratio else None,
        "ratio_low": ratio.low if ratio else None,
        "ratio_high": ratio.high if ratio else None,
        "predicted_ms": predicted.ms if predicted else None,
        "predicted_low_ms": predicted.low_ms if predicted else None,
        "predicted_high_ms": predicted.high_ms if predicted else None,
        "macs": row.contender.network.macs // batch,
        "params": row.contender.network.params,
        "published_top1": top1,
        "published_in": published_in,
        "notes": row.notes,
    }


def main() -> None:
    run(compare_command, "lat-compare")
