"""`lat-search`: the network that meets a budget on a device."""

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from latency import candidate_latency
from latency.candidates import CandidateLatency
from latency.errors import LatError, UsageError, extra
from latency.units import format_ms
from search import spaces
from search.budget import AskedBudget
from search.commands.console import notice, print_table, run
from search.commands.targets import covered, known_targets, resolve
from search.penalties import make_penalty
from search.result import SearchResult
from search.settings import preset
from search.space import SearchSpace

RUN_FILES = (
    "checkpoint",
    "result.json",
    "network.json",
    "model.onnx",
    "model.tflite",
    "model.npz",
)
"""What a run leaves in its folder."""


def search_command(
    target: Annotated[
        str,
        typer.Option(help="Device card, table, or path to either.", autocompletion=known_targets),
    ] = "cpu",
    budget: Annotated[
        str | None,
        typer.Option(help="Latency on the device, e.g. 5ms, 750us; or 50% of the space's range."),
    ] = None,
    space: Annotated[
        str, typer.Option(help="Search space.", autocompletion=spaces.known)
    ] = "proxyless",
    data: Annotated[str, typer.Option(help="Data set.")] = "digits",
    resolution: Annotated[
        int | None, typer.Option(help="Input resolution; the space's own where not given.")
    ] = None,
    width: Annotated[float, typer.Option(help="Width multiplier of the space.")] = 1.0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; runs/... where not given.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in --out.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run that is in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    strategy: Annotated[str, typer.Option(help="Search strategy.")] = "proxyless-g",
    binarisation: Annotated[
        str | None, typer.Option(help="Gates of an architecture step: two or full.")
    ] = None,
    penalty: Annotated[str | None, typer.Option(help="lagrangian, add#linear or mul#log.")] = None,
    steps: Annotated[int | None, typer.Option(help="Weight steps of the search.")] = None,
    train_steps: Annotated[
        int | None, typer.Option(help="Steps of the derived network's training.")
    ] = None,
    largest: Annotated[
        bool, typer.Option(help="Also train and measure the space's largest network.")
    ] = False,
    only_range: Annotated[
        bool, typer.Option("--range", help="Print the space's fastest and slowest latency.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Search a network that takes no longer than the budget, as measured on the device.

    Examples:

      lat-search --target cpu --budget 5ms

      lat-search --target cpu --space mini --budget 150us --out runs/mini

      lat-search --target cpu --space mini --range --json
    """
    started = time.monotonic()
    with extra("train"):
        from search.commands.search_job import SearchJob
        from search.data import load_dataset
    if strategy != "proxyless-g":
        raise UsageError(f"unknown strategy '{strategy}' (known: proxyless-g)")
    asked = None if budget is None and only_range else AskedBudget.parse(_given(budget))
    goal = resolve(target)
    dataset = load_dataset(data)
    options: dict[str, Any] = {"width": width, "classes": dataset.classes, "batch": goal.batch}
    if resolution is not None:
        options["resolution"] = resolution
    searched = spaces.load(space, **options)
    settings = preset(space).with_choices(
        steps=steps, train_steps=train_steps, binarisation=binarisation, penalty=penalty
    )
    table = covered(goal, searched, quiet=as_json)
    costs = candidate_latency(table, searched.blocks, searched.fixed)
    if asked is None or only_range:
        _print_range(costs, searched, as_json)
        return
    wanted = asked.of(costs)
    if text := wanted.check(costs):
        notice(text)
    make_penalty(settings.penalty, wanted.ms)  # refuses what it cannot be for, before any work
    folder = out or Path("runs") / f"{Path(target).stem}-{space}-{wanted.ms:.4g}ms"
    with _run_folder(folder, resume, overwrite):
        job = SearchJob(goal, table, costs, searched, dataset, wanted, settings, seed, folder)
        result = job.run(started, quiet=as_json, with_largest=largest)
    _print_result(result, folder, as_json)
    if not result.meets_budget:
        took = result.measured_high_ms or result.predicted_ms
        raise LatError(
            f"the network takes up to {format_ms(took)}, "
            f"{100 * (took / wanted.ms - 1):.1f} % over the budget of {format_ms(wanted.ms)}"
        )


def _given(budget: str | None) -> str:
    if budget is None:
        raise UsageError("no --budget given; say how long the network may take, e.g. --budget 5ms")
    return budget


@contextmanager
def _run_folder(folder: Path, resume: bool, overwrite: bool) -> Iterator[None]:
    """Claim the folder for one run at a time; `UsageError` where it holds another run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written to: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: another search is running in it; give --out") from None
        held = [name for name in RUN_FILES if (folder / name).exists()]
        if held and not (resume or overwrite):
            raise UsageError(
                f"{folder} holds another run ({held[0]}); go on with it by --resume, replace it "
                "by --overwrite, or give another --out"
            )
        if overwrite and not resume:
            for name in held:
                path = folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield


def _print_range(costs: CandidateLatency, space: SearchSpace, as_json: bool) -> None:
    if as_json:
        answer = {
            "space": space.tag,
            "fastest_ms": costs.fastest_ms,
            "slowest_ms": costs.slowest_ms,
        }
        print(json.dumps(answer))
    else:
        fastest, slowest = format_ms(costs.fastest_ms), format_ms(costs.slowest_ms)
        print(f"{space.tag}: {space.size:.1e} networks, from {fastest} to {slowest}")


def _print_result(result: SearchResult, folder: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(result)))
        return
    table = Table(title=f"{result.space} on {result.target}, {result.data}")
    for column in ("", "found network", *(["largest network"] if result.largest else [])):
        table.add_column(column, justify="left" if not column else "right")

    def row(label: str, found: str, largest: str) -> None:
        table.add_row(label, found, *([largest] if result.largest else []))

    big = dict(result.largest or {})
    row("budget", format_ms(result.budget_ms), "")
    row(
        "predicted",
        _with_interval(result.predicted_ms, result.predicted_high_ms),
        format_ms(big.get("predicted_ms", 0)),
    )
    if result.measured_ms is not None and result.measured_high_ms is not None:
        row(
            "measured",
            _with_interval(result.measured_ms, result.measured_high_ms),
            format_ms(big.get("measured_ms") or 0),
        )
        error = result.predicted_ms / result.measured_ms - 1
        row("prediction's error", f"{100 * error:+.1f} %", "")
        row("measured / budget", f"{result.measured_ms / result.budget_ms:.3f}", "")
    for label, key in (("valid accuracy", "valid_accuracy"), ("test accuracy", "test_accuracy")):
        row(label, f"{100 * getattr(result, key):.1f} %", f"{100 * big.get(key, 0):.1f} %")
    row("MACs", f"{result.macs / 1e6:.1f} M", f"{big.get('macs', 0) / 1e6:.1f} M")
    row("parameters", f"{result.params / 1e6:.2f} M", f"{big.get('params', 0) / 1e6:.2f} M")
    print_table(table)
    if result.measured_ms is None:
        print("not measured: the device of this table is not at hand")
    elif result.meets_budget:
        print("meets the budget as measured, interval included")
    print(f"{folder}: result.json, network.json, model.onnx ({result.seconds:.0f} s)")


def _with_interval(ms: float, high_ms: float) -> str:
    return f"{format_ms(ms)} ± {100 * (high_ms / ms - 1):.1f} %"


def main() -> None:
    run(search_command, "lat-search")
