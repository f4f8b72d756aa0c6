"""`lat-profile`: measure a device, write its table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from devices.card import load_card
from devices.cards import known_cards
from latency.errors import UsageError, unknown_name
from latency.graphs.fusion import SUITE
from latency.tables.library import user_folder
from latency.tables.table import LatencyTable
from search import spaces
from search.console import folded, notice, run
from search.jobs.few_shot import few_shot_space
from search.jobs.inspection import check_device, list_cards, verify_table
from search.jobs.kernel_suite import profile_suite
from search.jobs.profiling import profile_spaces
from search.jobs.targets import default_path, reachable

_APPLY = {
    "--list": (),
    "--check": ("--device",),
    "--verify": ("--device", "--out"),
    "--suite": ("--device", "--out", "--resume"),
}
"""Options that have no use for others than these (and --json)."""
_MOST_NAMED = 5
"""So many notes, and operators of each, are printed; all of them stand in the table."""


def profile_command(
    device: Annotated[
        str, typer.Option(help="Name or path of a device card.", autocompletion=known_cards)
    ] = "cpu",
    space: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Space to measure: {', '.join(spaces.known())}, or a file. Repeatable.",
            autocompletion=spaces.known,
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution; the space's own where not given.")
    ] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of the space.")] = 1.0,
    classes: Annotated[
        int | None, typer.Option(help="Classes; the space's own where not given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write or to verify, or the folder that it is in.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="Measure 'kernels': what CNNs of any kind are made of, for lat-predict."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was broken off.")] = False,
    few_shot: Annotated[
        int | None,
        typer.Option(help="Measure so many networks only, and predict the rest (10, say)."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", help="Of --few-shot: a table to predict from; repeatable."),
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Show the cards, their devices and their tables.")
    ] = False,
    only_check: Annotated[
        bool, typer.Option("--check", help="Try everything but the measuring.")
    ] = False,
    only_verify: Annotated[
        bool, typer.Option("--verify", help="Measure a random tenth of the table again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Measure every operator of a space on a device, and write its lookup table.

    Examples:

      lat-profile --device cpu --space proxyless

      lat-profile --device cpu --space mini --out tables/

      lat-profile --device cpu --suite kernels

      lat-profile --resume

      lat-profile --device cpu-litert --few-shot 10

      lat-profile --list

      lat-profile --device android --check

      lat-profile --device cpu --verify
    """
    if source and few_shot is None:
        raise UsageError("--from TABLE belongs to --few-shot N: say how many networks to measure")
    if suite not in (None, SUITE):
        raise unknown_name("suite", str(suite), [SUITE])
    given = {
        "--device": device != "cpu",
        "--space": bool(space),
        "--resolution": resolution is not None,
        "--width": width != 1,
        "--classes": classes is not None,
        "--out": out is not None,
        "--suite": suite is not None,
        "--resume": resume,
        "--few-shot": few_shot is not None,
        "--list": only_list,
        "--check": only_check,
        "--verify": only_verify,
    }
    _refuse_what_does_nothing([option for option, is_given in given.items() if is_given])
    if only_list:
        return list_cards(as_json)
    card = load_card(device)
    if only_check:
        return check_device(card, as_json)
    if only_verify:
        return verify_table(card, out, as_json)
    options = {"resolution": resolution, "width": width, "classes": classes, "batch": card.batch}
    known = {key: value for key, value in options.items() if value is not None}
    chosen = [spaces.load(name, **known) for name in space or ["proxyless"]]
    for name in source or ():
        LatencyTable.load(name)  # what is wrong with it is said before a device is waited for
    devices = reachable(card)
    path = default_path(devices[0].setting, out)
    if len(devices) > 1 and (suite is not None or few_shot is not None):
        alone = "--suite" if suite is not None else "--few-shot"
        notice(f"{alone} is not shared among devices: {devices[0].label} alone measures")
    if suite is not None:
        table = profile_suite(card, devices[0], path, resume, as_json)
    elif few_shot is None:
        table = profile_spaces(card, devices, chosen, path, resume, as_json)
    else:
        for one in chosen:
            table = few_shot_space(
                card, devices[0], one, path, few_shot, source or (), resume, as_json
            )
    measured = [row for row in table.rows.values() if not row.is_transferred]
    kernels = [row.relative_ci95 for row in measured if row.is_of_suite]
    own = [row.relative_ci95 for row in measured if not row.is_of_suite]
    intervals = own or kernels or [row.relative_ci95 for row in table.rows.values()]
    median_ci95 = float(np.median(intervals))
    within_asked = float(np.mean(np.array(intervals) <= card.measuring.ci95))
    failed = {
        key.removeprefix("failed "): error
        for key, error in table.circumstances.items()
        if key.startswith("failed ")
    }
    summary = {
        "table": str(path),
        "hardware": table.setting.hardware,
        "runtime": table.setting.runtime,
        "operators": len(table),
        "median_ci95": median_ci95,
        "within_asked": within_asked,
        "failed": failed,
        "validation": {
            tag: {"networks": v.networks, "mean_error": v.mean, "worst_error": v.worst}
            for tag, v in table.validations.items()
        },
        "transferred": table.transfers,
    }
    if as_json:
        print(json.dumps(summary))
        return
    setting = table.setting
    print(folded(f"{setting.hardware}, {setting.runtime}, {setting.threads} thread(s)"))
    if own:
        print(
            f"{len(own)} operators; 95 % interval: median ± {100 * median_ci95:.2f} %, "
            f"{100 * within_asked:.0f} % of them within {100 * card.measuring.ci95:g} %"
        )
    if kernels:
        median = 100 * float(np.median(kernels))
        print(f"{len(kernels)} kernels of the suite; 95 % interval: median ± {median:.1f} %")
    if transferred := len(table) - len(measured):
        print(f"{transferred} operators transferred from other devices, not measured")
    for tag in table.validations:
        print(folded(f"{tag}: {table.stated_error(tag)}"))
    for key, error in failed.items():
        print(folded(f"could not be measured: {key}: {error}"))
    for said in _unsteady(table):
        print(folded(said))
    if table.transfers:
        print(f"measure all of it when there is time: lat-profile --device {card.words}")
    print(f"table: {path}")
    print(f"look at it: lat-report {setting.device if path.parent == user_folder() else path}")
    if path.parent != user_folder():
        print(f"use it: lat-search --target {path} ...")


def _refuse_what_does_nothing(given: Sequence[str]) -> None:
    """Raise `UsageError` where one of the options that are given has no use for another."""
    for option in given:
        for other in given:
            if option in _APPLY and other not in (option, *_APPLY[option]):
                raise UsageError(f"{other} does nothing beside {option}: leave one of them out")


def _unsteady(table: LatencyTable) -> list[str]:
    """What is to be said of operators, each with those of the widest intervals it is said of."""
    noted: dict[str, list[str]] = {}
    for op in sorted(table, key=lambda op: -table[op].relative_ci95):
        row = table[op]
        if row.note and not row.is_transferred and not row.is_of_suite:
            noted.setdefault(row.note, []).append(op.key)
    groups = sorted(noted.items(), key=lambda item: -len(item[1]))
    said = []
    for note, keys in groups[:_MOST_NAMED]:
        more = len(keys) - _MOST_NAMED
        others = f" and {more} more" if more > 0 else ""
        said.append(f"{note}: {', '.join(keys[:_MOST_NAMED])}{others}")
    if rest := sum(len(keys) for _, keys in groups[_MOST_NAMED:]):
        said.append(f"of {rest} more, see the column `note`")
    return said


def main() -> None:
    run(profile_command, "lat-profile")
