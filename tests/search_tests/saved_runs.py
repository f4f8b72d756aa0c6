"""Folders of searches for tests: a result with every field that a report can show."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from latency import LatencyTable
from search import spaces

STEPS = 100


def save_run(folder: Path, table: Path, **changes: Any) -> Path:
    """A made-up search of `mini` by `table`; `changes` replace fields of its result, and drop
    those that are None."""
    space, generator = spaces.load("mini"), np.random.default_rng(0)
    choices = [0, 1, 6, 3, 4, 6, 5, 2, 0]
    network = space.network(choices)
    ms = LatencyTable.load(table).predict(network).ms
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
        "table": str(table),
        "version": "0.1.0",
        "largest": _network(1.8 * ms, 0.98),
        "budgets": [
            _budget("phone", "ms", 1.05 * ms, ms),
            _budget("macs", "", 1.3 * network.macs, network.macs),
            _budget("memory", "bytes", 4e6, 3.1e6),
        ],
        "baselines": [_network(ms, 0.95, "random"), _network(1.01 * ms, 0.96, "evolution")],
        "pareto": [
            {**_network(share * ms, 0.9 + 0.05 * share), "choices": choices}
            for share in (0.6, 0.8, 1.0)
        ],
        "command": ["lat-search", "--target", "phone", "--budget", "400us"],
        **changes,
    }
    folder.mkdir(parents=True)
    kept = {name: value for name, value in result.items() if value is not None}
    (folder / "result.json").write_text(json.dumps(kept))
    (folder / "network.json").write_text(network.to_json())
    return folder


OLDER = dict.fromkeys(("budgets", "baselines", "pareto", "command", "largest"))
"""Fields that the results of older searches lack."""


def _step(step: int, ms: float, counts: tuple[int, ...], generator: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "step": step,
        "train_loss": 2.0,
        "expected_ms": ms * (2 - step / STEPS),
        "expected": {"phone": ms * (2 - step / STEPS), "macs": 1e7, "memory": 3e6},
        "multiplier": {"phone": 0.01 * step, "macs": 0.0, "memory": 0.0},
        "valid_loss": 2.3 - step / STEPS,
        "entropy": 1.9 - step / STEPS,
    }
    if step % 10 == 0:
        told["probabilities"] = [generator.dirichlet(np.ones(n)).tolist() for n in counts]
    return told


def _budget(name: str, unit: str, limit: float, predicted: float) -> dict[str, Any]:
    ends = {"predicted_low": 0.98 * predicted, "predicted_high": 1.02 * predicted}
    measured = 1.01 * predicted if unit == "ms" else None
    told = {"name": name, "unit": unit, "limit": limit, "predicted": predicted, "meets": True}
    return {**told, **ends, "measured": measured}


def _network(ms: float, accuracy: float, name: str | None = None) -> dict[str, Any]:
    told = {"predicted_ms": ms, "measured_ms": 1.01 * ms, "valid_accuracy": accuracy}
    counts = {"macs": 9_000_000, "params": 200_000}
    return {**told, **counts, "budget_ms": ms, "choices": None, **({"name": name} if name else {})}
