"""`SearchResult`: what a search returns, and its certificate: asked, predicted, measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SearchResult:
    """`result.json`. Latencies in ms, accuracies as shares.

    `predicted_ms` is the latency model's, before any correction by measurements of the network;
    `measured_ms` with `measured_low_ms`, `measured_high_ms` (95 %) is the exported model's on
    the device, None where none was at hand. `meets_budget`: measured with its interval, or where
    it was not measured, predicted. `attempts`: each network that was derived and measured on the
    way. `largest`: the space's largest network, where it was asked for.
    """

    target: str
    space: str
    data: str
    strategy: str
    budget_ms: float
    predicted_ms: float
    predicted_low_ms: float
    predicted_high_ms: float
    measured_ms: float | None
    measured_low_ms: float | None
    measured_high_ms: float | None
    meets_budget: bool
    valid_accuracy: float
    test_accuracy: float
    macs: int
    params: int
    seconds: float
    seed: int
    choices: Sequence[int]
    settings: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    probabilities: Sequence[Sequence[float]]
    table: str
    version: str
    largest: Mapping[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
