"""`lat-profile`: measure a device, write its table."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import typer

from devices.card import load_card
from latency.errors import DeviceError, UsageError, unknown_name
from latency.graphs.fusion import SUITE
from latency.tables.table import LatencyTable
from search.commands import profile_options as options
from search.commands.profile_printing import (
    print_cards,
    print_readiness,
    print_summary,
    print_verification,
)
from search.commands.ways import refuse_others
from search.console import notice, run
from search.jobs import inspection
from search.jobs.bench import Bench, open_bench
from search.jobs.few_shot import profile_few_shot
from search.jobs.profiling import load_spaces, profile_spaces, profile_suite
from search.jobs.summary import ProfileSummary


def profile_command(
    context: typer.Context,
    device: options.Device = "cpu",
    space: options.Spaces = None,
    resolution: options.Resolution = None,
    width: options.Width = 1.0,
    classes: options.Classes = None,
    out: options.Out = None,
    suite: options.Suite = None,
    resume: options.Resume = False,
    few_shot: options.FewShot = None,
    sources: options.Sources = None,
    only_list: options.OnlyList = False,
    only_check: options.OnlyCheck = False,
    only_verify: options.OnlyVerify = False,
    as_json: options.Json = False,
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
    if only_list:
        refuse_others(context, list_cards, "--list shows all cards", "only_list")
        return list_cards(as_json=as_json)
    if only_check:
        refuse_others(context, check_device, "--check measures nothing", "only_check")
        return check_device(device=device, as_json=as_json)
    if only_verify:
        refuse_others(context, verify_table, "--verify measures a table again", "only_verify")
        return verify_table(device=device, out=out, as_json=as_json)
    if suite is not None:
        refuse_others(context, measure_suite, "--suite measures kernels, of no space")
        return measure_suite(device=device, suite=suite, out=out, resume=resume, as_json=as_json)
    if few_shot is not None:
        refuse_others(context, measure_few, "--few-shot measures networks of a space")
        return measure_few(
            device=device,
            space=space,
            resolution=resolution,
            width=width,
            classes=classes,
            out=out,
            resume=resume,
            few_shot=few_shot,
            sources=sources,
            as_json=as_json,
        )
    if sources:
        raise UsageError("--from TABLE belongs to --few-shot N: give the number of networks")
    card = load_card(device)
    chosen = load_spaces(space, card.batch, resolution, width, classes)
    bench = open_bench(card, out)
    table = profile_spaces(bench, chosen, resume=resume, quiet=as_json)
    _summarise(table, bench, as_json)


def list_cards(*, as_json: bool) -> None:
    """Print every card with the state of its device and its table."""
    print_cards(inspection.list_cards(), as_json)


def check_device(*, device: str, as_json: bool) -> None:
    """Print, step by step, whether a device is ready. Raises `DeviceError` if it is not."""
    found = inspection.check_device(device)
    print_readiness(found, as_json)
    if not found.is_ready:
        raise DeviceError(f"{found.card} is not ready to be measured")


def verify_table(*, device: str, out: Path | None, as_json: bool) -> None:
    """Measure a part of a table again, and print what has changed."""
    where = "" if out is None else f" --out {shlex.quote(str(out))}"
    again = f"lat-profile --device {shlex.quote(device)}{where}"
    try:
        table, found = inspection.verify_table(device, out, quiet=as_json)
    except inspection.NoTableError as error:
        raise DeviceError(f"{error}; measure one: {again}") from None
    print_verification(found, table, again, as_json)


def measure_suite(
    *, device: str, suite: str, out: Path | None, resume: bool, as_json: bool
) -> None:
    """Measure the suite of kernels on one device."""
    if suite != SUITE:
        raise unknown_name("suite", suite, [SUITE])
    bench = open_bench(load_card(device), out)
    _notice_that_one_measures(bench, "--suite")
    table = profile_suite(bench, resume=resume, quiet=as_json)
    _summarise(table, bench, as_json)


def measure_few(
    *,
    device: str,
    space: Sequence[str] | None,
    resolution: int | None,
    width: float,
    classes: int | None,
    out: Path | None,
    resume: bool,
    few_shot: int,
    sources: Sequence[str] | None,
    as_json: bool,
) -> None:
    """Measure a few networks on one device, and predict the rest from tables of others."""
    card = load_card(device)
    chosen = load_spaces(space, card.batch, resolution, width, classes)
    for name in sources or ():
        LatencyTable.load(name)  # a broken one is an error before a device is waited for
    bench = open_bench(card, out)
    _notice_that_one_measures(bench, "--few-shot")
    table = profile_few_shot(bench, chosen, few_shot, sources or (), resume=resume, quiet=as_json)
    _summarise(table, bench, as_json)


def _notice_that_one_measures(bench: Bench, option: str) -> None:
    if len(bench.devices) > 1:
        notice(f"{option} is not shared among devices: {bench.device.label} alone measures")


def _summarise(table: LatencyTable, bench: Bench, as_json: bool) -> None:
    summary = ProfileSummary(table, bench.path, bench.card.measuring.ci95)
    print_summary(summary, bench.card.argument, as_json)


def main() -> None:
    run(profile_command, "lat-profile")
