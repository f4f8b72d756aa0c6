"""`lat-profile`: measure a device, write its table."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from devices.card import load_card
from devices.connection import connect
from latency.library import user_folder
from search import spaces
from search.commands.console import run
from search.commands.targets import default_path, profile_space


def profile_command(
    device: Annotated[str, typer.Option(help="Name or path of a device card.")] = "cpu",
    space: Annotated[
        list[str] | None, typer.Option(help="Space to measure; may be given repeatedly.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution; the space's own where not given.")
    ] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of the space.")] = 1.0,
    classes: Annotated[
        int | None, typer.Option(help="Classes; the space's own where not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write, or the folder to write it to.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was broken off.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Measure every operator of a space on a device, and write its lookup table.

    Examples:

      lat-profile --device cpu --space proxyless

      lat-profile --device cpu --space mini --out tables/

      lat-profile --resume
    """
    card = load_card(device)
    options = {"resolution": resolution, "width": width, "classes": classes, "batch": card.batch}
    given = {key: value for key, value in options.items() if value is not None}
    chosen = [spaces.load(name, **given) for name in space or ["proxyless"]]
    target = connect(card)
    path = default_path(target)
    if out is not None:
        path = out if out.suffix == ".csv" else out / path.name
    for one in chosen:
        table = profile_space(card, target, one, path, resume, as_json)
    intervals = [row.relative_ci95 for row in table.rows.values()]
    median_ci95 = float(np.median(intervals))
    within_asked = float(np.mean(np.array(intervals) <= card.measuring.ci95))
    summary = {
        "table": str(path),
        "hardware": table.setting.hardware,
        "runtime": table.setting.runtime,
        "operators": len(table),
        "median_ci95": median_ci95,
        "within_asked": within_asked,
        "validation": {
            tag: {"networks": v.networks, "mean_error": v.mean, "worst_error": v.worst}
            for tag, v in table.validations.items()
        },
    }
    if as_json:
        print(json.dumps(summary))
        return
    print(f"{table.setting.hardware}, {table.setting.runtime}, {table.setting.threads} thread(s)")
    print(
        f"{len(table)} operators; 95 % interval: median ± {100 * median_ci95:.2f} %, "
        f"{100 * within_asked:.0f} % of them within the asked "
        f"{100 * card.measuring.ci95:g} %"
    )
    for tag, validation in table.validations.items():
        print(f"{tag}: {validation}, never fitted on")
    print(f"table: {path}")
    if path.parent != user_folder():
        print(f"use it: lat-search --target {path} ...")


def main() -> None:
    run(profile_command, "lat-profile")
