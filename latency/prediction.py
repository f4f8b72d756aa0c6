"""`LatencyModel`, which predicts a network's latency, and its `Prediction`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.units import format_ms

MEASURED, PREDICTED = "measured", "predicted"
"""Where an operator's latency comes from."""


@dataclass(frozen=True)
class OpPrediction:
    """Latency of an operator inside a network, with its 95 % interval, all in ms."""

    op: OpSpec
    ms: float
    low_ms: float
    high_ms: float
    source: str = MEASURED


@dataclass(frozen=True)
class Prediction:
    """Latency of a network in ms, with its 95 % interval, and the operators that add up to it."""

    ms: float
    low_ms: float
    high_ms: float
    per_op: tuple[OpPrediction, ...]

    def __str__(self) -> str:
        low, high = format_ms(self.low_ms), format_ms(self.high_ms)
        return f"{format_ms(self.ms)} (95 %: {low} to {high})"


class LatencyModel(Protocol):
    """Predicts networks operator by operator: a network's `ms` is the sum of its operators' `ms`.

    Raises `CoverageError` for operators that it cannot predict.
    """

    def predict(self, network: NetworkSpec) -> Prediction:
        """Latency of a network."""
        ...

    def predict_op(self, op: OpSpec) -> OpPrediction:
        """Latency that an operator adds to a network."""
        ...

    def missing(self, ops: Iterable[OpSpec]) -> tuple[OpSpec, ...]:
        """The operators that the model cannot predict, each once, in order."""
        ...
