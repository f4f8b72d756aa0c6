"""`lat-profile`: measure a device, write its table."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from devices.card import load_card
from devices.cards import known_cards
from latency.errors import DeviceError, UsageError
from latency.tables.table import LatencyTable
from search import spaces
from search.commands.options import Json, Resolution, Width, refuse_others, with_fields
from search.commands.profile_printing import (
    print_cards,
    print_readiness,
    print_summary,
    print_verification,
)
from search.console import notice, run
from search.jobs import inspection
from search.jobs.bench import Bench, open_bench
from search.jobs.few_shot import profile_few_shot
from search.jobs.profiling import load_spaces, profile_spaces, profile_suite
from search.jobs.summary import ProfileSummary


@dataclass(frozen=True)
class ProfileOptions:
    """The options of `lat-profile`."""

    device: Annotated[
        str, typer.Option(help="Name or path of a device card.", autocompletion=known_cards)
    ] = "cpu"
    space: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Space to measure: {', '.join(spaces.known())}, or a file; proxyless if not "
            "given. Repeatable.",
            autocompletion=spaces.known,
        ),
    ] = None
    resolution: Resolution = None
    width: Width = 1.0
    classes: Annotated[
        int | None, typer.Option(help="Number of classes; the space's own if not given.")
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Table to write or to verify, or the folder that it is in.")
    ] = None
    suite: Annotated[
        Literal["kernels"] | None,
        typer.Option(help="Measure the kernels of CNNs in general, for lat-predict."),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run that was interrupted.")
    ] = False
    few_shot: Annotated[
        int | None,
        typer.Option(help="Measure only this number of networks (e.g. 10), and predict the rest."),
    ] = None
    sources: Annotated[
        list[str] | None,
        typer.Option("--from", help="With --few-shot: a table to predict from; repeatable."),
    ] = None
    only_list: Annotated[
        bool, typer.Option("--list", help="Show the cards, their devices and their tables.")
    ] = False
    only_check: Annotated[
        bool, typer.Option("--check", help="Check the setup without measuring.")
    ] = False
    only_verify: Annotated[
        bool, typer.Option("--verify", help="Measure a random tenth of the table again.")
    ] = False
    as_json: Json = False


@with_fields(ProfileOptions)
def profile_command(options: ProfileOptions) -> None:
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
    if options.only_list:
        refuse_others(options, {"only_list", "as_json"}, "--list shows all cards")
        print_cards(inspection.list_cards(), options.as_json)
    elif options.only_check:
        used = {"only_check", "device", "as_json"}
        refuse_others(options, used, "--check measures nothing")
        _check(options)
    elif options.only_verify:
        used = {"only_verify", "device", "out", "as_json"}
        refuse_others(options, used, "--verify measures a table again")
        _verify(options)
    elif options.suite is not None:
        used = {"suite", "device", "out", "resume", "as_json"}
        refuse_others(options, used, "--suite measures kernels, not a space")
        bench = open_bench(load_card(options.device), options.out)
        _notice_single_device(bench, "--suite")
        _summarise(
            profile_suite(bench, resume=options.resume, quiet=options.as_json), bench, options
        )
    else:
        _profile_spaces(options)


def _check(options: ProfileOptions) -> None:
    """Print, step by step, whether a device is ready. Raises `DeviceError` if it is not."""
    found = inspection.check_device(options.device)
    print_readiness(found, options.as_json)
    if not found.is_ready:
        raise DeviceError(f"{found.card} is not ready to be measured")


def _verify(options: ProfileOptions) -> None:
    """Measure a part of a table again, and print what has changed."""
    again = f"lat-profile --device {shlex.quote(options.device)}"
    if options.out is not None:
        again += f" --out {shlex.quote(str(options.out))}"
    try:
        table, found = inspection.verify_table(options.device, options.out, quiet=options.as_json)
    except inspection.NoTableError as error:
        raise DeviceError(f"{error}; measure one: {again}") from None
    print_verification(found, table, again, options.as_json)


def _profile_spaces(options: ProfileOptions) -> None:
    """Measure all operators of spaces, or with --few-shot a few networks on one device."""
    if options.sources and options.few_shot is None:
        raise UsageError("--from needs --few-shot N")
    card = load_card(options.device)
    chosen = load_spaces(
        options.space, card.batch, options.resolution, options.width, options.classes
    )
    for name in options.sources or ():
        LatencyTable.load(name)  # a broken one is an error before a device is waited for
    bench = open_bench(card, options.out)
    resume, quiet = options.resume, options.as_json
    if options.few_shot is None:
        table = profile_spaces(bench, chosen, resume=resume, quiet=quiet)
    else:
        _notice_single_device(bench, "--few-shot")
        sources = options.sources or ()
        table = profile_few_shot(
            bench, chosen, options.few_shot, sources, resume=resume, quiet=quiet
        )
    _summarise(table, bench, options)


def _notice_single_device(bench: Bench, option: str) -> None:
    if len(bench.devices) > 1:
        notice(f"{option} measures on one device: {bench.device.label}")


def _summarise(table: LatencyTable, bench: Bench, options: ProfileOptions) -> None:
    summary = ProfileSummary(table, bench.path, bench.card.measuring.ci95)
    print_summary(summary, bench.card.argument, options.as_json)


def main() -> None:
    run(profile_command, "lat-profile")
