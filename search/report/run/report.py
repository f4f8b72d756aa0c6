"""The report of one search."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from latency import zoo
from latency.errors import LatError
from latency.graphs.kernels import Network
from latency.tables.table import LatencyTable
from latency.units import format_ms
from search.budget import macs_of_one
from search.report.files import SavedBudget, Stage
from search.report.look import GREEN, GREY
from search.report.page import Grid, Page, Part, Picture, Text
from search.report.run.blocks import Drawing, blocks_figure, chosen, drawn
from search.report.run.figures import budget_figure, curves_figure, operators_figure
from search.report.run.front import Group, comparison_parts
from search.report.run.probabilities import probabilities_figure
from search.report.run.saved_run import SavedRun
from search.report.table.report import setting_grid


def run_page(run: SavedRun) -> Page:
    """The report of a search, without what its files do not contain."""
    sections = {
        "Network": _network(run),
        "Budget": _budget(run),
        "Search": _search(run),
        "Comparison": _comparison(run),
        "Latency per operator": _operators(run),
        "How to reproduce it": _circumstances(run),
    }
    result = run.result
    stage = "predicted" if result.measured_ms is None else "measured"
    return Page(
        run.title,
        f"lat-search, {result.strategy} on {result.data}",
        summary(run),
        {title: [*parts] for title, parts in sections.items()},
        f"{'Meets' if result.meets_budget else 'Misses'} the budget, as {stage}",
        good=result.meets_budget,
    )


def summary(run: SavedRun) -> dict[str, str]:
    """The numbers of a search at a glance, by label."""
    facts: dict[str, str] = {}
    for budget in run.result.budgets:
        facts[f"budget, {budget.name}"] = budget.format(budget.limit)
        facts[f"predicted, {budget.name}"] = _with_interval(budget, "predicted")
        if budget.unit == "ms":
            facts[f"measured, {budget.name}"] = _with_interval(budget, "measured")
    result = run.result
    for split, share in (("valid", result.valid_accuracy), ("test", result.test_accuracy)):
        facts[f"{split} accuracy"] = f"{100 * share:.1f} %"
    facts["MACs"] = f"{macs_of_one(run.network) / 1e6:.1f} M"
    facts["parameters"] = f"{run.network.params / 1e6:.2f} M"
    return facts


def _with_interval(budget: SavedBudget, stage: Stage) -> str:
    if (interval := budget.interval(stage)) is None:
        return f"not {stage}"
    value, low, high = interval
    half = f" ± {100 * (high / value - 1):.1f} %" if value and low != high else ""
    return f"{budget.format(value)}{half}"


def _network(run: SavedRun) -> Iterator[Part]:
    yield Picture(
        "network",
        "One bar per block: height is the expansion ratio, colour the kernel, the number below it "
        "the output channels from this block on. Hollow blocks are skipped. Published networks "
        "have 224×224 inputs; stem, last convolution and classifier are not drawn.",
        blocks_figure([drawing(run, "found"), *_published()]),
    )


def drawing(run: SavedRun, name: str) -> Drawing:
    """The network that a run found."""
    stage = "measured" if run.result.measured_ms else "predicted"
    details = f"{_macs(run.network)}, {format_ms(run.result.ms)} {stage}"
    return chosen(run, run.result.choices, name, details)


def _published() -> Iterator[Drawing]:
    for name in zoo.PUBLISHED:
        network = zoo.load(name)
        yield drawn(network, name, _macs(network))


def _macs(network: Network) -> str:
    return f"{network.macs / network.batch / 1e6:.0f} M MACs"


def _budget(run: SavedRun) -> Iterator[Part]:
    yield Picture(
        "budget",
        "The prediction of the latency model for the network and the measurement of the exported "
        "model on the device, in percent of the budget (the red line), with 95 % intervals. "
        "Hollow: networks that were derived and measured during the search.",
        budget_figure({"": run}),
    )


def _search(run: SavedRun) -> Iterator[Part]:
    if (curves := curves_figure({"": run})) is not None:
        yield Picture(
            "curves",
            "Architecture steps: the expected cost of a random network, the multiplier of its "
            "penalty, the validation and training losses, and the entropy of the choices.",
            curves,
        )
    if (probabilities := probabilities_figure(run)) is not None:
        yield Picture(
            "probabilities",
            "The probability of each candidate of each block. Colour is the kernel; larger "
            "expansions are stronger shades.",
            probabilities,
        )


def _comparison(run: SavedRun) -> Iterator[Part]:
    result = run.result
    if result.baselines:
        groups = [
            Group("baselines", result.baselines, GREY, "markers+text"),
            Group("found", [result], GREEN),
        ]
        yield from comparison_parts(groups, result.budget_ms)


def _operators(run: SavedRun) -> Iterator[Part]:
    for number, (target, operators) in enumerate(run.result.operators.items(), 1):
        yield Picture(
            "operators" if number == 1 else f"operators-{number}",
            f"The operators of the network on {target} in order of execution, by the latency "
            "model: kind, kernel, expansion, output channels, output size.",
            operators_figure(operators),
        )


def _circumstances(run: SavedRun) -> Iterator[Part]:
    result = run.result
    if result.command:
        yield Text(shlex.join(result.command), verbatim=True)
    facts = {
        "version": f"lat-search {result.version}",
        "seed": result.seed,
        "target": ", ".join(run.tables),
        "space": result.space,
        "data": result.data,
        "strategy": result.strategy,
        "choices": ".".join(map(str, run.result.choices)),
        "table": ", ".join(dict.fromkeys(map(str, run.tables.values()))),
        "seconds": f"{result.seconds:.0f}",
    }
    yield Grid(_pairs(facts), caption="Run")
    if environment := result.environment.model_extra:
        yield Grid(_pairs(environment), caption="Environment")
    yield Grid(_pairs(result.settings), caption="Settings")
    for target, path in run.tables.items():
        with suppress(LatError):  # a missing table
            grid = setting_grid(LatencyTable.load(path))
            yield replace(grid, caption=f"{target}: measured with")
    for name, content in result.environment.files.items():
        yield Text(f"{name}, as saved:")
        yield Text(content, verbatim=True)


def _pairs(facts: Mapping[str, Any]) -> list[Sequence[str]]:
    return [(name.replace("_", " "), str(value)) for name, value in facts.items() if value != ""]
