"""`Budget`: how long the network may take, held against what a space can reach."""

from dataclasses import dataclass

from latency.candidates import CandidateLatency
from latency.errors import UsageError
from latency.units import format_ms, parse_ms


@dataclass(frozen=True)
class Budget:
    """Most latency that the returned network may have on the device, in ms."""

    ms: float

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read "5ms", "750us", ...; `UsageError` for anything that is no positive duration."""
        return cls(parse_ms(text))

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
