"""The report of one search."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from latency import zoo
from latency.errors import CoverageError, LatError
from latency.graphs.kernels import Network
from latency.prediction import Prediction
from latency.predictors.regression import RegressionModel
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.budget import macs_of_one
from search.report.page import Grid, Page, Part, Picture, Section, Words
from search.report.run.blocks import Drawing, blocks_figure, chosen, drawn
from search.report.run.breakdown import breakdowns
from search.report.run.figures import budget_figure, curves_figure, operators_figure
from search.report.run.probabilities import probabilities_figure
from search.report.run.rivals import rival_parts, took
from search.report.run.saved_run import Bound, SavedRun
from search.report.table.facts import setting_grid


def run_page(run: SavedRun) -> Page:
    """The report of a search's folder. What its files do not tell is left out."""
    sections = (
        Section("Network", list(_network(run))),
        Section("Budget", list(_budget(run))),
        Section("Search", list(_search(run))),
        Section("Beside other networks", list(_rivals(run))),
        Section("Where the milliseconds go", list(_operators(run))),
        Section("To repeat it", list(_circumstances(run))),
    )
    return Page(
        run.title,
        f"lat-search, {run.result['strategy']} on {run.result['data']}",
        summary(run),
        [section for section in sections if section.parts],
        _verdict(run),
        good=run.result["meets_budget"],
    )


def summary(run: SavedRun) -> list[tuple[str, str]]:
    """The numbers of a search in a glance: (what, value)."""
    facts: list[tuple[str, str]] = []
    for bound in run.bounds:
        facts.append((f"budget, {bound.name}", bound.told(bound.limit)))
        facts.append((f"predicted, {bound.name}", _with_ends(bound, "predicted")))
        if bound.unit == "ms":
            facts.append((f"measured, {bound.name}", _with_ends(bound, "measured")))
    for label, key in (("valid accuracy", "valid_accuracy"), ("test accuracy", "test_accuracy")):
        if run.result.get(key) is not None:
            facts.append((label, f"{100 * run.result[key]:.1f} %"))
    facts.append(("MACs", f"{macs_of_one(run.network) / 1e6:.1f} M"))
    facts.append(("parameters", f"{run.network.params / 1e6:.2f} M"))
    return facts


def _with_ends(bound: Bound, what: str) -> str:
    value, ends = getattr(bound, what), getattr(bound, f"{what}_ends")
    if not value or not ends or ends[0] == ends[1]:
        return bound.told(value)
    return f"{bound.told(value)} ± {100 * (ends[1] / value - 1):.1f} %"


def _verdict(run: SavedRun) -> str:
    by = "as measured" if run.result["measured_ms"] is not None else "as predicted"
    return f"{'Meets' if run.result['meets_budget'] else 'Misses'} the budget, {by}"


def _network(run: SavedRun) -> Iterator[Part]:
    drawings = [drawing(run, "found"), *_published(run.model)]
    yield Picture(
        "network",
        "A bar is a block: its height the expansion ratio, its colour the kernel, the number "
        "under it the channels that it and its followers put out. Hollow blocks are skipped. "
        "Published networks have 224×224 inputs; stem, last convolution and classifier are not "
        "drawn.",
        blocks_figure(drawings),
    )


def drawing(run: SavedRun, name: str) -> Drawing:
    """The network that a run found, with the blocks that it skips where its space is known."""
    measured = run.result.get("measured_ms")
    what = "measured" if measured else "predicted"
    details = _details(run.network, measured or run.result["predicted_ms"], what)
    if run.blocks is None:
        return drawn(run.network, name, details)
    return chosen(run.around, run.blocks, run.choices, name, details)


def _published(model: RegressionModel | None) -> Iterator[Drawing]:
    batch = model.table.setting.batch if model else 1
    for name in zoo.PUBLISHED:
        network = zoo.load(name, batch=batch)
        prediction = predicted(model, network)
        yield drawn(network, name, _details(network, prediction.ms if prediction else None))


def predicted(model: RegressionModel | None, network: Network) -> Prediction | None:
    """What a model makes of a network; None without one, and where the network is too far from
    all that was measured."""
    try:
        return model.predict(network) if model else None
    except CoverageError:
        return None


def _details(network: Network, ms: float | None, what: str = "predicted") -> str:
    macs = f"{network.macs / network.batch / 1e6:.0f} M MACs"
    return f"{macs}, {format_ms(ms)} {what}" if ms else macs


def _budget(run: SavedRun) -> Iterator[Part]:
    yield Picture(
        "budget",
        "The budget, what the latency model predicts of the network, and what the device measures "
        "of the deployed file, with 95 % intervals; hollow: networks that were derived and "
        "measured on the way.",
        budget_figure(run.bounds, [measured for _, _, measured in run.tried if measured]),
    )
    if len(run.tried) > 1:
        rows = [
            (
                str(number),
                format_ms(ms),
                str(measured) if measured else "not measured",
                str(measured.runs) if measured else "",
                choices,
            )
            for number, (choices, ms, measured) in enumerate(run.tried, 1)
        ]
        header = ("", "predicted", "measured", "runs", "choices")
        yield Grid(rows, header, "Networks that were derived on the way; the last is the one found")


def _search(run: SavedRun) -> Iterator[Part]:
    if (curves := curves_figure({"": run})) is not None:
        yield Picture(
            "curves",
            "Each architecture step: the latency that is expected of a network drawn at random, "
            "the multiplier that presses it under the budget, the losses on the validation and on "
            "the training split, and how undecided the choices are.",
            curves,
        )
    yield Picture(
        "probabilities",
        "How probable each candidate of each block was: kernel as colour, larger expansions in "
        "stronger shades.",
        probabilities_figure(run),
    )


def _rivals(run: SavedRun) -> Iterator[Part]:
    rivals = [run.result[name] for name in ("baselines", "pareto", "largest")]
    if any(rivals):
        front = [one for one in run.result["pareto"] if one.get("choices")]
        blocks = run.blocks or ()
        yield from rival_parts(
            run.result,
            [
                chosen(run.around, blocks, one["choices"], format_ms(took(one)))
                for one in sorted(front, key=took)
                if blocks
            ],
        )


def _operators(run: SavedRun) -> Iterator[Part]:
    found = list(breakdowns(run))
    for number, one in enumerate(found, 1):
        if not one.operators:
            yield Words(f"{one.why}.")
            continue
        of_which = f", on {one.target}" if len(found) > 1 else ""
        yield Picture(
            "operators" if number == 1 else f"operators-{number}",
            f"Each operator of the network in order of execution{of_which}, by the latency model: "
            "kind, kernel, expansion, output channels, output size.",
            operators_figure(one.operators),
        )


def _circumstances(run: SavedRun) -> Iterator[Part]:
    result = run.result
    if words := result["command"]:
        yield Words(shlex.join(words), verbatim=True)
    facts = {
        "version": f"lat-search {result['version']}",
        "seed": result["seed"],
        "target": ", ".join(run.tables),
        "space": result["space"],
        "data": result["data"],
        "strategy": result["strategy"],
        "choices": ".".join(map(str, run.choices)),
        "table": ", ".join(dict.fromkeys(map(str, run.tables.values()))),
        "seconds": f"{result['seconds']:.0f}",
    }
    yield Grid(_pairs(facts), caption="The run")
    if run.environment:
        yield Grid(_pairs(run.environment), caption="Ran in and on")
    yield Grid(_pairs(result["settings"]), caption="Settings")
    yield from _settings_of_tables(run)
    for path, text in run.files.items():
        yield Words(f"{path}, as kept:")
        yield Words(text, verbatim=True)


def _settings_of_tables(run: SavedRun) -> Iterator[Part]:
    """What each target was measured with, where its table is still there."""
    for target, path in run.tables.items():
        try:
            table = LatencyTable.load(path)
        except LatError:
            continue
        caption = f"{target}: measured with" if len(run.tables) > 1 else "Measured with"
        yield replace(setting_grid(table), caption=caption)


def _pairs(facts: Mapping[str, Any]) -> list[Sequence[str]]:
    return [(name.replace("_", " "), str(value)) for name, value in facts.items() if value != ""]
