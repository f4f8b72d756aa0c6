"""Penalties: how the architecture loss depends on the expected latency E.

With task loss CE and budget B:

    lagrangian   CE + m * E / B            m by damped dual ascent on E / B - 1 (default)
    add#linear   CE + lambda * (E - B) / B           (ProxylessNAS, equation 3)
    mul#log      a * CE * (log E / log B) ** b       (ProxylessNAS's published code)
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from latency.errors import UsageError
from search.settings import PENALTIES


@dataclass(frozen=True)
class Slope:
    """Derivatives of the architecture loss."""

    task: float
    """With respect to the task loss."""
    per_cost: float
    """With respect to the expected cost, in its unit (ms for a latency)."""


@dataclass
class Penalty(ABC):
    """How the architecture loss depends on the task loss and the expected latency; stateless."""

    limit: float

    @abstractmethod
    def slope(self, task_loss: float, expected: float) -> Slope:
        """The loss's derivatives; advances the penalty's state by one step."""

    @property
    def state(self) -> dict[str, float]:
        """The state for a checkpoint."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Restore a checkpoint's state."""
        for name in self.state:
            setattr(self, name, state[name])


@dataclass
class Lagrangian(Penalty):
    """A multiplier that grows while the expected latency is over the budget, and shrinks below it.

    Damped dual ascent: the multiplier is max(0, integral + damping * violation) (Platt & Barr,
    Constrained Differential Optimization, NIPS 1987).
    """

    rate: float = 0.02
    damping: float = 2.0
    integral: float = field(default=0.0, init=False)

    def slope(self, task_loss: float, expected: float) -> Slope:
        violation = expected / self.limit - 1
        self.integral = max(0.0, self.integral + self.rate * violation)
        multiplier = max(0.0, self.integral + self.damping * violation)
        return Slope(1.0, multiplier / self.limit)

    @property
    def state(self) -> dict[str, float]:
        return {"integral": self.integral}


@dataclass
class AddLinear(Penalty):
    """`add#linear` with the published weight."""

    weight: float = 0.1

    def slope(self, task_loss: float, expected: float) -> Slope:
        return Slope(1.0, self.weight / self.limit)


@dataclass
class MulLog(Penalty):
    """`mul#log` with the published exponents, of latencies in ms. Raises `UsageError` for budgets
    up to 1 ms, whose logarithm is not positive."""

    scale: float = 0.2
    exponent: float = 0.3

    def __post_init__(self) -> None:
        if self.limit <= 1:
            raise UsageError(
                "`penalty` mul#log takes the logarithm of the budget in ms, which must be over "
                "1ms; use lagrangian or add#linear"
            )

    def slope(self, task_loss: float, expected: float) -> Slope:
        log_ms = math.log(max(expected, 1.001))
        ratio = (log_ms / math.log(self.limit)) ** self.exponent
        steepness = self.exponent * ratio / (log_ms * expected)
        return Slope(self.scale * ratio, self.scale * task_loss * steepness)


def make_penalty(name: str, limit: float) -> Penalty:
    """The penalty of this name (`search.settings.PENALTIES`). Raises `UsageError` for a limit that
    it does not allow."""
    return dict(zip(PENALTIES, (Lagrangian, AddLinear, MulLog), strict=True))[name](limit)
