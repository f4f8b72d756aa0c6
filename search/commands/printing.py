"""What a search prints."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from latency.candidates import CandidateLatency
from latency.units import format_count, format_ms
from search.console import folded, print_table
from search.result import BudgetOutcome, SearchResult
from search.space import SearchSpace

if TYPE_CHECKING:
    from search.runs.front import Front
    from search.runs.retraining import Trained


_NOT_MEASURED = "not measured: the device of this table cannot be reached"
_FILES = ("result.json", "network.json", "model.onnx", "model.tflite", "report.html")


def print_result(result: SearchResult, folder: Path, as_json: bool) -> None:
    """Print the network found beside its baselines; with `as_json`, the whole result."""
    if as_json:
        print(json.dumps(asdict(result)))
        return
    others = result.baselines
    table = Table("", title=f"{result.space} on {Path(result.target).stem}, {result.data}")
    for column in ("found", *(str(other["name"]) for other in others)):
        table.add_column(column, justify="right")
    for budget in result.budgets:
        _add_budget(table, budget, result, others)
    networks = [vars(result), *others]
    for label in ("valid accuracy", "test accuracy"):
        key = label.replace(" ", "_")
        table.add_row(label, *(f"{100 * one[key]:.1f} %" for one in networks))
    for label, key in (("MACs", "macs"), ("parameters", "params")):
        table.add_row(label, *(format_count(one[key]) for one in networks))
    print_table(table)
    if result.measured_ms is None:
        print(_NOT_MEASURED)
    elif result.meets_budget:
        print("meets the budget as measured, interval included")
    for budget in result.budgets:
        if budget.is_off:
            print(
                folded(
                    f"{budget.name}: the measurement and the prediction differ; check whether the "
                    "table is still accurate: lat-profile --verify"
                )
            )
    files = [name for name in _FILES if (folder / name).exists()]
    print(f"{folder}: {', '.join(files)} ({result.seconds:.0f} s)")


def _add_budget(
    table: Table,
    budget: BudgetOutcome,
    result: SearchResult,
    others: Sequence[Mapping[str, Any]],
) -> None:
    """Add the limit, prediction and measurement of a budget; those of `others` on the target."""
    if budget.unit != "ms":
        table.add_row(f"{budget.name} budget", budget.text(budget.limit))
        if budget.unit == "bytes":  # counts of all networks come below
            table.add_row(budget.name, budget.text(budget.predicted))
        return
    if budget.name != result.target:
        others = ()
    of = f", {budget.name}" if sum(b.unit == "ms" for b in result.budgets) > 1 else ""
    table.add_row(f"budget{of}", format_ms(budget.limit))
    predicted = _with_interval(budget.predicted, budget.predicted_high)
    table.add_row(f"predicted{of}", predicted, *(_ms(one["predicted_ms"]) for one in others))
    if budget.measured is not None and budget.measured_high is not None:
        measured = _with_interval(budget.measured, budget.measured_high)
        table.add_row(f"measured{of}", measured, *(_ms(one["measured_ms"]) for one in others))
        table.add_row(f"error{of}", f"{100 * (budget.predicted / budget.measured - 1):+.1f} %")
        table.add_row(f"measured / budget{of}", f"{budget.measured / budget.limit:.3f}")


def print_front(front: "Front", folder: Path, as_json: bool) -> None:
    """Print the networks of a Pareto front, fastest first; with `as_json`, all of it."""
    if as_json:
        print(json.dumps(vars(front)))
        return
    table = Table(title=f"{front.space} on {Path(front.target).stem}, {front.data}")
    for column in ("budget", "predicted", "measured", "valid accuracy", "MACs", "parameters"):
        table.add_column(column, justify="right")
    for row in front.networks:
        table.add_row(
            format_ms(row["budget_ms"]),
            format_ms(row["predicted_ms"]),
            _ms(row["measured_ms"]) + ("" if row["meets"] else ", over"),
            f"{100 * row['valid_accuracy']:.1f} %",
            format_count(row["macs"]),
            format_count(row["params"]),
        )
    print_table(table)
    print("accuracies are with the supernet's weights, without further training")
    print(f"{folder}: pareto.json, pareto/*.json ({front.seconds:.0f} s)")
    if front.networks[0]["measured_ms"] is None:
        print(_NOT_MEASURED)


def print_trained(trained: "Trained", folder: Path, as_json: bool) -> None:
    """Print the accuracies of a network trained from scratch; with `as_json`, all of it."""
    if as_json:
        print(json.dumps(asdict(trained)))
        return
    valid, test = 100 * trained.valid_accuracy, 100 * trained.test_accuracy
    print(
        f"{trained.network} on {trained.data}: valid accuracy {valid:.1f} %, test accuracy "
        f"{test:.1f} %, {format_count(trained.macs)} MACs, {format_count(trained.params)} "
        f"parameters, {trained.steps} steps"
    )
    print(f"{folder}: retrain.json, model.onnx, model.tflite ({trained.seconds:.0f} s)")


def print_range(costs: CandidateLatency, space: SearchSpace, as_json: bool) -> None:
    """Print the latencies of a space's fastest and slowest network."""
    fastest, slowest = costs.fastest_ms, costs.slowest_ms
    if as_json:
        print(json.dumps({"space": space.tag, "fastest_ms": fastest, "slowest_ms": slowest}))
    else:
        ends = f"from {format_ms(fastest)} to {format_ms(slowest)}"
        print(f"{space.tag}: {Decimal(space.size):.2g} networks, {ends}")


def _ms(value: float | None) -> str:
    return "" if value is None else format_ms(value)


def _with_interval(ms: float, high_ms: float) -> str:
    return f"{format_ms(ms)} ± {100 * (high_ms / ms - 1):.1f} %"
