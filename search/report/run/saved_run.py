"""`SavedRun`: the folder of a search, read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.report.files import ResultFile, SavedBudget, read_back
from search.run_files import RESULT, unfinished

_NETWORK = "network.json"


@dataclass(frozen=True)
class SavedRun:
    """A finished search: its result and the network that it found."""

    folder: Path
    result: ResultFile
    network: NetworkSpec

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run. Raises `UsageError` if the folder has no finished search and `SpecError` if a
        file is not valid."""
        path = folder / RESULT
        if not path.is_file():
            raise unfinished(folder)
        result = read_back(path, ResultFile, "a result")
        return cls(folder, result, NetworkSpec.load(folder / _NETWORK))

    @property
    def title(self) -> str:
        return f"{self.result.space} on {self.result.target}"

    @property
    def tables(self) -> dict[str, Path]:
        """The table of each target."""
        latencies = [budget for budget in self.result.budgets if budget.unit == "ms"]
        return {budget.name: Path(budget.table or self.result.table) for budget in latencies}

    @property
    def tried(self) -> list[Measurement]:
        """Measurements of the networks derived during the search, on the first target."""
        name = self.result.budgets[0].name
        rows = (one.measured.get(name) for one in self.result.attempts)
        return [Measurement(**dict(row)) for row in rows if row]

    def curve(self, field: str, budget: SavedBudget | None = None) -> list[tuple[int, Any]]:
        """(step, value) of a field of the history, or of its value for a budget, without the steps
        that have none."""
        values = [(one.step, getattr(one, field)) for one in self.result.history]
        if budget is not None:
            values = [(step, by_name.get(budget.name)) for step, by_name in values]
        return [(step, value) for step, value in values if value is not None]
