"""`Figure`: a measured number beside what was promised."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured figure and its bounds; None where there is no bound."""

    name: str
    value: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        over = self.most is not None and self.value > self.most
        under = self.least is not None and self.value < self.least
        return not (over or under)
