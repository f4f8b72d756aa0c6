"""Searches, Pareto fronts and tables for tests of reports, with everything that a report shows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latency import LatencyTable, Measurement, OpSpec, Validation
from search import spaces
from search.result import operator_rows

STEPS = 100
OTHER = OpSpec.parse("mbconv-8x8x16-16-k3-s1-e3-relu")
UNSTABLE = "unstable: <b>stop</b> other work"


def save_run(folder: Path, table: Path, **changes: Any) -> Path:
    """A made-up search of `mini` by `table`; `changes` replace fields of its result."""
    space, generator = spaces.load("mini"), np.random.default_rng(0)
    choices = [0, 1, 6, 3, 4, 6, 5, 2, 0]
    network = space.network(choices)
    predicted = LatencyTable.load(table).predict(network)
    ms = predicted.ms
    measured = {"median_ms": 1.02 * ms, "ci95_ms": 0.01 * ms, "runs": 300, "min_ms": ms}
    result = {
        "target": "phone",
        "space": "mini@32",
        "data": "digits",
        "strategy": "proxyless-g",
        "budget_ms": 1.05 * ms,
        "predicted_ms": ms,
        "predicted_low_ms": 0.98 * ms,
        "predicted_high_ms": 1.02 * ms,
        "measured_ms": 1.02 * ms,
        "measured_low_ms": 1.01 * ms,
        "measured_high_ms": 1.03 * ms,
        "meets_budget": True,
        "valid_accuracy": 0.97,
        "test_accuracy": 0.96,
        "macs": network.macs,
        "params": network.params,
        "seconds": 12.0,
        "seed": 7,
        "choices": choices,
        "settings": {"penalty": "lagrangian", "warmup_steps": 10},
        "attempts": [
            {"choices": choices, "predicted": {"phone": ms}, "measured": {"phone": measured}},
            {"choices": choices, "predicted": {"phone": ms}, "measured": {}},
        ],
        "history": [_step(step, ms, space.counts, generator) for step in range(STEPS)],
        "probabilities": [[1 / count] * count for count in space.counts],
        "candidates": [[op and op.key for op in block] for block in space.blocks],
        "table": str(table),
        "version": "0.1.0",
        "budgets": [
            _budget("phone", "ms", 1.05 * ms, ms),
            _budget("macs", "", 1.3 * network.macs, network.macs),
            _budget("memory", "bytes", 4e6, 3.1e6),
        ],
        "baselines": [_network(ms, 0.95, "random"), _network(1.01 * ms, 0.96, "evolution")],
        "command": ["lat-search", "--target", "phone", "--budget", "400us"],
        "environment": {
            "python": "3.11.2",
            "torch": "2.13.0+cpu",
            "machine": "some board, 2 CPUs",
            "trained_on": "cpu",
            "processes": 4,
            "files": {"own.toml": "resolution = 32  # <b>mine</b>"},
        },
        "operators": {"phone": operator_rows(predicted)},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "network.json").write_text(network.to_json())
    return folder


LEAN: dict[str, Any] = {
    **{"baselines": [], "command": [], "environment": {}},
    **{"operators": {}, "attempts": [], "history": []},
}
"""Optional results that a search does not have: no steps and no other networks."""


def save_front(folder: Path, shares: Sequence[float] = (0.5, 1.0)) -> Path:
    """A made-up Pareto front of `mini`: one network for each of `shares` of a millisecond."""
    space = spaces.load("mini")
    network = space.network([0] * len(space.blocks))
    rows = [{**_network(share, 0.9 + 0.05 * share), "network": "n.json"} for share in shares]
    content = {
        "target": "phone",
        "space": "mini@32",
        "data": "digits",
        "seed": 0,
        "version": "0.1.0",
    }
    folder.mkdir(parents=True)
    (folder / "n.json").write_text(network.to_json())
    (folder / "pareto.json").write_text(json.dumps({**content, "networks": rows}))
    return folder


def save_table(path: Path, mini: Path) -> Path:
    """The table `mini` with kernels, unstable rows, a validation, and an operator of no shipped
    space."""
    table = LatencyTable.load(mini)
    rows = dict(table.rows)
    rows[OTHER] = Measurement(0.02, 0.0001, 20, 0.019)
    for channels in (16, 32, 64, 128):
        for tail in (f"k3-s1-g{channels}", "k3-s1"):
            op = OpSpec.parse(f"conv-14x14x{channels}-{channels}-{tail}")
            ms = 0.004 + op.macs * 6e-8 + channels * 1e-5
            rows[op] = Measurement(ms, 0.2 * ms, 20, ms, note=UNSTABLE)
    checked = replace(
        table,
        rows=rows,
        validations={"mini@32": Validation(12, 0.011, 0.02, 0.012)},
        circumstances={"clock": "<script>alert(1)"},
        measured={"mini@32": "drift: 3 of 99 rounds"},
    )
    checked.save(path)
    return path


def _step(step: int, ms: float, counts: tuple[int, ...], generator: Any) -> dict[str, Any]:
    content: dict[str, Any] = {
        "step": step,
        "train_loss": 2.0,
        "expected": {"phone": ms * (2 - step / STEPS), "macs": 1e7, "memory": 3e6},
        "multiplier": {"phone": 0.01 * step, "macs": 0.0, "memory": 0.0},
        "valid_loss": 2.3 - step / STEPS,
        "entropy": 1.9 - step / STEPS,
    }
    if step % 10 == 0:
        content["probabilities"] = [generator.dirichlet(np.ones(n)).tolist() for n in counts]
    return content


def _budget(name: str, unit: str, limit: float, predicted: float) -> dict[str, Any]:
    ends = {"predicted_low": 0.98 * predicted, "predicted_high": 1.02 * predicted}
    measured = 1.01 * predicted if unit == "ms" else None
    ends |= {"measured_low": measured, "measured_high": measured}
    content = {"name": name, "unit": unit, "limit": limit, "predicted": predicted, "meets": True}
    return {**content, **ends, "measured": measured}


def _network(ms: float, accuracy: float, name: str | None = None) -> dict[str, Any]:
    content = {"predicted_ms": ms, "measured_ms": 1.01 * ms, "valid_accuracy": accuracy}
    counts = {"macs": 9_000_000, "params": 200_000}
    return {
        **content,
        **counts,
        "budget_ms": ms,
        "choices": None,
        **({"name": name} if name else {}),
    }
