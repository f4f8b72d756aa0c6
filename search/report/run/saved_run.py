"""`SavedRun`: the folder of a search, read back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from latency.candidates import Block
from latency.errors import LatError, SpecError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.prediction import OpPrediction
from latency.predictors.regression import RegressionModel, fit
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from search.report.files import ResultFile, SavedBudget, read_back
from search.run_files import RESULT, unfinished
from search.space import network_at

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
        run = cls(folder, result, NetworkSpec.load(folder / _NETWORK))
        front = [one.choices for one in result.pareto if one.choices]
        if run.blocks and not all(_are_of(choices, run.blocks) for choices in front):
            raise SpecError(
                f"{path}: not a result of lat-search: its Pareto front is of another space"
            )
        return run

    @property
    def title(self) -> str:
        return f"{self.result.space} on {self.result.target}"

    @property
    def tables(self) -> dict[str, Path]:
        """The table of each target."""
        latencies = [budget for budget in self.result.budgets if budget.unit == "ms"]
        return {budget.name: Path(budget.table or self.result.table) for budget in latencies}

    def operators(self, target: str) -> tuple[OpPrediction, ...]:
        """The latency of each operator of the network on a target, in order of execution: as saved
        by the search, or else by the present table. Raises `LatError` if the table cannot be read
        or does not cover the network."""
        if rows := self.result.operators.get(target):
            return tuple(OpPrediction(**dict(row)) for row in rows)
        table = LatencyTable.load(self.tables[target])
        network = network_at(self.network, table.setting.batch)
        is_whole = not table.missing(network.parts)
        model = table if is_whole else fit(table)
        return model.predict(network).per_op

    @property
    def model(self) -> RegressionModel | None:
        """The regression of the first target's table; None if the table is missing or too small."""
        try:
            return fit(LatencyTable.load(Path(self.result.table)))
        except LatError:
            return None

    @cached_property
    def blocks(self) -> tuple[Block, ...] | None:
        """The candidates of each block; None if the choices among them do not make the network."""
        blocks, choices = self.result.candidates, self.result.choices
        if not _are_of(choices, blocks) or self.result.shapes != {tuple(map(len, blocks))}:
            return None
        chosen = {block[i] for block, i in zip(blocks, choices, strict=True)}
        return tuple(map(tuple, blocks)) if chosen <= {None, *self.network.parts} else None

    @cached_property
    def before(self) -> tuple[OpSpec, ...]:
        """The operators before the first chosen one; meaningful only with `blocks`."""
        candidates = {op for block in self.blocks or () for op in block}
        return tuple(takewhile(lambda op: op not in candidates, self.network.parts))

    @property
    def tried(self) -> list[tuple[str, float | None, Measurement | None]]:
        """The networks derived during the search: choices, predicted ms, measurement."""
        name, tried = self.result.budgets[0].name, []
        for one in self.result.attempts:
            row = one.measured.get(name)
            measured = Measurement.from_dict(dict(row)) if row else None
            tried.append((".".join(map(str, one.choices)), one.predicted.get(name), measured))
        return tried

    def curve(self, field: str, budget: SavedBudget | None = None) -> list[tuple[int, Any]]:
        """(step, value) of a field of the history, or of its value for a budget, without the steps
        that have none."""
        values = [(one.step, getattr(one, field)) for one in self.result.history]
        if budget is not None:
            values = [(step, by_name.get(budget.name)) for step, by_name in values]
        return [(step, value) for step, value in values if value is not None]


def _are_of(choices: Sequence[int], blocks: Sequence[Block]) -> bool:
    """Whether there is one valid choice per block."""
    return len(choices) == len(blocks) and all(
        choice < len(block) for choice, block in zip(choices, blocks, strict=True)
    )
