"""`SearchResult`: the result of a search, and its certificate."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from latency.atomic_file import write_whole
from latency.prediction import Prediction
from latency.units import format_amount


@dataclass(frozen=True)
class BudgetOutcome:
    """A budget, and how much of it a network uses, with 95 % intervals: `predicted` by the
    uncorrected latency model, and `measured` of the exported model if a device could be reached.
    `unit`: "ms" for latency, "bytes" for memory, "" for a count. `meets`: whether the upper end of
    the measured interval is within the limit; without a measurement, the prediction. `table`: of
    the latency model."""

    name: str
    unit: str
    limit: float
    predicted: float
    predicted_low: float
    predicted_high: float
    measured: float | None
    measured_low: float | None
    measured_high: float | None
    meets: bool
    table: str | None = None

    @classmethod
    def of_size(cls, name: str, unit: str, limit: float, size: float) -> Self:
        """The outcome of a budget on a size, which is exact."""
        return cls(name, unit, limit, size, size, size, None, None, None, size <= limit)

    @property
    def is_off(self) -> bool:
        """Whether the measured and the predicted interval do not overlap."""
        if self.measured_low is None or self.measured_high is None:
            return False
        return self.measured_high < self.predicted_low or self.measured_low > self.predicted_high

    def text(self, amount: float) -> str:
        """An amount with its unit."""
        return format_amount(amount, self.unit)


@dataclass(frozen=True)
class SearchResult:
    """`result.json`. Latencies in ms, accuracies as shares, `macs` of one input.

    `budget_ms`, `predicted_ms`, `measured_ms` and their intervals are those of `target`, the
    first of `budgets`. `candidates`: keys of each block's candidates, null for a skipped block;
    `choices` and `probabilities` index them. `attempts`: each network that was derived and
    measured. `history`: the architecture steps. `baselines`: networks found without a
    search, at the same budgets, trained and measured alike.
    `environment`: versions, machine, and the user's own files (`search.runs.certificate`).
    `operators`, by target: the predicted latency of each operator of the network, in order
    (`operator_rows`). `failed`: keys and errors of candidates that could not be measured.
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
    budgets: Sequence[BudgetOutcome]
    valid_accuracy: float
    test_accuracy: float
    macs: int
    params: int
    seconds: float
    seed: int
    choices: Sequence[int]
    candidates: Sequence[Sequence[str | None]]
    settings: Mapping[str, Any]
    attempts: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    probabilities: Sequence[Sequence[float]]
    table: str
    version: str
    command: Sequence[str]
    baselines: Sequence[Mapping[str, Any]] = field(default_factory=list)
    environment: Mapping[str, Any] = field(default_factory=dict)
    operators: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        write_whole(path, json.dumps(asdict(self), indent=2) + "\n")


def operator_rows(prediction: Prediction) -> list[dict[str, Any]]:
    """The operators of a prediction as JSON objects: `op`, its key; `ms` and its 95 % interval
    `low_ms` to `high_ms`; `source`, measured or predicted."""
    return [{**vars(part), "op": part.op.key} for part in prediction.per_op]
