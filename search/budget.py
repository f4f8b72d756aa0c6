"""`Budget`: how long the network may take, held against what a space can reach."""

import math
from dataclasses import dataclass

from latency.candidates import CandidateLatency
from latency.errors import UsageError
from latency.units import format_ms, parse_ms


@dataclass(frozen=True)
class Budget:
    """Most latency that the returned network may have on the device, in ms."""

    ms: float

    def check(self, costs: CandidateLatency) -> str | None:
        """Whether the space has a network within the budget, before anything is trained.

        Raises `UsageError` with the feasible range where it has none. Returns a notice where the
        budget binds nothing, else None.
        """
        fastest, slowest = costs.fastest_ms, costs.slowest_ms
        feasible = f"the space reaches from {format_ms(fastest)} to {format_ms(slowest)}"
        if self.ms < fastest:
            raise UsageError(
                f"budget {format_ms(self.ms)} is below the fastest network: {feasible}"
            )
        if self.ms > slowest:
            return f"budget {format_ms(self.ms)} is above the slowest network: {feasible}"
        return None


@dataclass(frozen=True)
class AskedBudget:
    """A budget as a user writes it: a duration, or a share of a space's range ("50%": half way
    from its fastest to its slowest network), which only becomes one once a space is known."""

    ms: float | None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "AskedBudget":
        """Read "5ms", "750us", "50%", ...; `UsageError` for anything that is no positive
        duration and no share between 0 and 100 %."""
        if not text.strip().endswith("%"):
            return cls(parse_ms(text))
        try:
            share = float(text.strip()[:-1]) / 100
        except ValueError:
            raise UsageError(f"'{text}' has no number; write a share such as 50%") from None
        if math.isnan(share) or not 0 <= share <= 1:
            raise UsageError(f"'{text}' is not between 0% and 100% of the space's range")
        return cls(None, share)

    def of(self, costs: CandidateLatency) -> Budget:
        """The budget in ms."""
        if self.ms is not None:
            return Budget(self.ms)
        assert self.share is not None
        return Budget(costs.fastest_ms + self.share * (costs.slowest_ms - costs.fastest_ms))
