"""The hardware term of the architecture loss.

The expected latency E is cheap and deterministic, so its gradient is taken exactly over all
candidates; a penalty only has to say how the loss depends on E. With task loss CE and budget B:

    lagrangian   CE + m * E / B            m by damped dual ascent on E / B - 1 (default)
    add#linear   CE + lambda * (E - B) / B           (ProxylessNAS, equation 3)
    mul#log      a * CE * (log E / log B) ** b       (ProxylessNAS's published code)
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

from latency.errors import UsageError, unknown_name
from search.settings import PENALTIES


@dataclass(frozen=True)
class Slope:
    """Derivatives of the architecture loss."""

    task: float
    """With respect to the task loss."""
    per_cost: float
    """With respect to the expected cost, in its unit (ms of a latency)."""


class Penalty(Protocol):
    """How the architecture loss depends on the task loss and the expected latency."""

    def slope(self, task_loss: float, expected: float) -> Slope:
        """The loss's derivatives here; advances the penalty's state by one step."""
        ...

    @property
    def state(self) -> dict[str, float]:
        """What a checkpoint must keep."""
        ...

    def restore(self, state: dict[str, float]) -> None:
        """Take up a state that a checkpoint kept."""
        ...


@dataclass
class Lagrangian:
    """A multiplier that grows while the expectation is over the budget, and shrinks below it.

    Dual ascent with damping: the multiplier in force is max(0, integral + damping * violation)
    (Platt & Barr, Constrained Differential Optimization, NIPS 1987).
    """

    limit: float
    rate: float = 0.02
    damping: float = 2.0
    integral: float = field(default=0.0, init=False)

    def slope(self, task_loss: float, expected: float) -> Slope:
        violation = expected / self.limit - 1
        self.integral = max(0.0, self.integral + self.rate * violation)
        return Slope(1.0, self.multiplier(expected) / self.limit)

    def multiplier(self, expected: float) -> float:
        """The multiplier in force at an expected latency."""
        return max(0.0, self.integral + self.damping * (expected / self.limit - 1))

    @property
    def state(self) -> dict[str, float]:
        return {"integral": self.integral}

    def restore(self, state: dict[str, float]) -> None:
        self.integral = state["integral"]


@dataclass
class AddLinear:
    """`add#linear` with the published weight."""

    limit: float
    weight: float = 0.1
    state: dict[str, float] = field(default_factory=dict, init=False)

    def slope(self, task_loss: float, expected: float) -> Slope:
        return Slope(1.0, self.weight / self.limit)

    def restore(self, state: dict[str, float]) -> None:
        """Stateless."""


@dataclass
class MulLog:
    """`mul#log` with the published exponents. Latencies enter in ms, as published, so that the
    logarithm asks for budgets over one ms: `UsageError` else."""

    limit: float
    scale: float = 0.2
    exponent: float = 0.3
    state: dict[str, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.limit <= 1:
            raise UsageError(
                "the penalty mul#log takes logarithms of milliseconds, so that a budget must be "
                "over 1ms; use lagrangian or add#linear"
            )

    def slope(self, task_loss: float, expected: float) -> Slope:
        log_ms = math.log(max(expected, 1.001))
        ratio = (log_ms / math.log(self.limit)) ** self.exponent
        steepness = self.exponent * ratio / (log_ms * expected)
        return Slope(self.scale * ratio, self.scale * task_loss * steepness)

    def restore(self, state: dict[str, float]) -> None:
        """Stateless."""


def make_penalty(name: str, limit: float) -> Penalty:
    """The penalty of this name (`search.settings.PENALTIES`); `UsageError` for unknown ones, and
    where it cannot be for such a budget."""
    kinds = dict(zip(PENALTIES, (Lagrangian, AddLinear, MulLog), strict=True))
    if name not in kinds:
        raise unknown_name("penalty", name, PENALTIES)
    return kinds[name](limit)
