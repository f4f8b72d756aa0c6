"""The certificate of a search: the limit, prediction and measurement of each budget."""

import platform
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from devices.cards import known_cards, own_cards_folder
from latency import machine
from latency.predictors.regression import RegressionModel
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from search.budget import Budget, BudgetKind, macs_of_one
from search.confirmation import Attempt
from search.console import version
from search.jobs.targets import Target
from search.result import BudgetOutcome, SearchResult, operator_rows
from search.runs.checkpoints import as_dict
from search.runs.found_network import FoundNetwork
from search.runs.search_run import SearchRun
from search.searcher import SupernetTraining
from search.shared_card import shared_part
from search.space import SearchSpace
from search.spaces.own import SUFFIXES
from search.training.compute import Compute


def certified(
    run: SearchRun,
    search: SupernetTraining,
    found: FoundNetwork,
    *,
    baselines: Sequence[Mapping[str, Any]],
    started: float,
) -> SearchResult:
    """The result of a run. `baselines`: the comparison networks. `started`: when the run began, on
    the monotonic clock."""
    plan, chosen = run.plan, found.attempt
    outcomes = budget_outcomes(run.budgets, chosen, found.measured)
    first = outcomes[0]
    return SearchResult(
        target=first.name,
        space=plan.space.tag,
        data=plan.data.name,
        strategy=plan.settings.strategy,
        budget_ms=first.limit,
        predicted_ms=first.predicted,
        predicted_low_ms=first.predicted_low,
        predicted_high_ms=first.predicted_high,
        measured_ms=first.measured,
        measured_low_ms=first.measured_low,
        measured_high_ms=first.measured_high,
        meets_budget=all(one.meets for one in outcomes),
        budgets=outcomes,
        valid_accuracy=run.accuracy(found.training, plan.data.valid),
        test_accuracy=run.accuracy(found.training, plan.data.test),
        macs=macs_of_one(chosen.network),
        params=chosen.network.params,
        seconds=time.monotonic() - started,
        seed=plan.seed,
        choices=chosen.choices,
        candidates=[[op.key if op else None for op in block] for block in plan.space.blocks],
        settings=plan.settings.as_dict,
        attempts=[as_dict(attempt) for attempt in found.attempts],
        history=search.history,
        probabilities=np.exp(search.utility).tolist(),
        table=first.table or "",
        version=version(),
        command=[Path(sys.argv[0]).name, *sys.argv[1:]],
        baselines=baselines,
        failed=plan.as_you_go.failed if plan.as_you_go else {},
        environment=environment(plan.targets.values(), plan.space, plan.compute),
        operators={
            budget.name: operator_rows(budget.predict(chosen.network)) for budget in run.latencies
        },
    )


def budget_outcomes(
    budgets: Sequence[Budget], chosen: Attempt, measured: Mapping[str, Measurement]
) -> list[BudgetOutcome]:
    """The share of each budget that the network `chosen` uses. `measured`: of the deployed files,
    by the targets' names."""
    return [
        _of_latency(budget, chosen, measured.get(budget.name))
        if budget.kind is BudgetKind.LATENCY
        else BudgetOutcome.of_size(
            budget.name, budget.kind.unit, budget.limit, budget.usage(chosen.network)
        )
        for budget in budgets
    ]


def _of_latency(budget: Budget, chosen: Attempt, measured: Measurement | None) -> BudgetOutcome:
    prediction = budget.predict(chosen.network)
    # If operators are predicted, the predicted cost is the mean plus some standard deviations.
    used = measured.high_ms if measured else chosen.predicted[budget.name]
    return BudgetOutcome(
        name=budget.name,
        unit=budget.kind.unit,
        limit=budget.limit,
        predicted=prediction.ms,
        predicted_low=prediction.low_ms,
        predicted_high=prediction.high_ms,
        measured=measured.median_ms if measured else None,
        measured_low=measured.low_ms if measured else None,
        measured_high=measured.high_ms if measured else None,
        meets=used <= budget.limit,
        table=_table_of(budget),
    )


def _table_of(budget: Budget) -> str:
    model = budget.model
    table = model.table if isinstance(model, RegressionModel) else model
    return table.source if isinstance(table, LatencyTable) else ""


def environment(targets: Iterable[Target], space: SearchSpace, compute: Compute) -> dict[str, Any]:
    """Versions, the machine, the device trained on, the number of processes, and `files`: the
    user's own space by its path, and the measuring part of their device cards by name. Results are
    shared, so nothing in it identifies or unlocks a machine."""
    device = compute.device
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": machine.system(),
        "machine": machine.hardware(),
        "trained_on": f"{device.type}{gpu}",
        "threads": torch.get_num_threads(),
        "processes": compute.ranks.world,
        "files": _own_files(targets, space),
    }


def _own_files(targets: Iterable[Target], space: SearchSpace) -> dict[str, str]:
    """The files of the user's own space and cards that still exist."""
    files = {}
    for path in map(Path, shlex.split(space.arguments)[:1]):
        if path.suffix in SUFFIXES and path.is_file():
            files[str(path)] = path.read_text(errors="replace")
    for card in map(_own_card, targets):
        if card is not None and card.is_file():
            files[card.name] = shared_part(card.read_text(errors="replace"))
    return files


def _own_card(target: Target) -> Path | None:
    """The file of a target's card; None if it has none, or a shipped one."""
    if target.name.endswith(".toml"):
        return Path(target.name)
    card = known_cards().get(target.bench.card.name if target.bench else target.name)
    return card if card is not None and card.is_relative_to(own_cards_folder()) else None
