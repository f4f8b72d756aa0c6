"""`SavedRun`: a search's folder, read back, with whatever of it is still there."""

from collections.abc import Mapping, Sequence
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
from latency.units import format_amount
from search.report.files import ResultFile, read_back
from search.result import operators_read
from search.run_files import RESULT, unfinished
from search.shared_card import is_card, shared_part

NETWORK = "network.json"
_FILES = "files"
"""Of the environment: what is told apart from the rest of it."""

Ends = tuple[float, float]


@dataclass(frozen=True)
class Bound:
    """A budget: the most that the network may have of `name`, in `unit` ("ms" of a target's
    latency, "bytes" of memory, nothing of a count), what was predicted of it, and measured, with
    their 95 % intervals; None where it was not. `table`: the one that a latency went by."""

    name: str
    unit: str
    limit: float
    predicted: float | None
    predicted_ends: Ends | None
    measured: float | None
    measured_ends: Ends | None
    meets: bool | None
    table: str | None = None

    def told(self, amount: float | None) -> str:
        """An amount with its unit."""
        return "not measured" if amount is None else format_amount(amount, self.unit)


@dataclass(frozen=True)
class SavedRun:
    """`result` is result.json as it stands."""

    folder: Path
    result: Mapping[str, Any]
    network: NetworkSpec

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a run. `UsageError` where the folder holds none that is finished, `SpecError` where
        a file of it is broken."""
        path = folder / RESULT
        if not path.is_file():
            raise unfinished(folder)
        result = read_back(path, ResultFile, "a result")
        run = cls(folder, result, NetworkSpec.load(folder / NETWORK))
        try:
            _ = run.bounds, run.tried, run.operators, run.files
            run._require_one_shape()
        except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
            said = str(error) if isinstance(error, ValueError | SpecError) else repr(error)
            raise SpecError(f"{path}: not a result of lat-search: {said}") from None
        return run

    @property
    def title(self) -> str:
        return f"{self.result['space']} on {self.result['target']}"

    @cached_property
    def table(self) -> LatencyTable | None:
        """The table that the search went by; None where it is gone or broken since."""
        try:
            return LatencyTable.load(Path(self.result["table"]))
        except LatError:
            return None

    @property
    def tables(self) -> dict[str, Path]:
        """The table that each target went by."""
        first = str(self.result["table"])
        latencies = [bound for bound in self.bounds if bound.unit == "ms"]
        return {bound.name: Path(bound.table or first) for bound in latencies}

    @cached_property
    def operators(self) -> dict[str, tuple[OpPrediction, ...]]:
        """By target, what each operator of the network took by the model that the search went by,
        of those targets of which this was kept."""
        kept = self.result["operators"]
        return {target: operators_read(rows) for target, rows in kept.items() if rows}

    @property
    def environment(self) -> dict[str, str]:
        """What the search ran in and on, in words."""
        kept = self.result["environment"]
        return {name: str(value) for name, value in kept.items() if name != _FILES}

    @property
    def files(self) -> dict[str, str]:
        """By path, the text of the user's own space, and the part of cards that may be shared."""
        kept = self.result["environment"].get(_FILES) or {}
        texts = {str(path): str(text) for path, text in kept.items()}
        return {path: shared_part(text) if is_card(text) else text for path, text in texts.items()}

    @cached_property
    def model(self) -> RegressionModel | None:
        """The regression of the table; None where that is gone, or too small."""
        try:
            return fit(self.table) if self.table else None
        except LatError:
            return None

    @cached_property
    def blocks(self) -> tuple[Block, ...] | None:
        """The candidates of the blocks that were chosen from; None where these do not make the
        network."""
        blocks = tuple(tuple(map(_op, keys)) for keys in self.result["candidates"])
        return blocks if self._is_of(blocks) else None

    @cached_property
    def _shapes(self) -> set[tuple[int, ...]]:
        """Candidates of each block, wherever probabilities are told of them."""
        told = [*(rows for _, rows in self.snapshots), self.result["probabilities"]]
        return {tuple(map(len, rows)) for rows in told}

    def _require_one_shape(self) -> None:
        """Raises `ValueError` where parts of the result are of different blocks."""
        if len(self._shapes) > 1:
            raise ValueError("its probabilities are of different blocks")
        for one in self.result["pareto"]:
            if self.blocks and (choices := one.get("choices")):
                pairs = zip(choices, self.blocks, strict=True)
                if any(choice >= len(block) for choice, block in pairs):
                    raise ValueError("a network of its front is of another space")

    def _is_of(self, blocks: Sequence[Block]) -> bool:
        """Whether the choices among the blocks make the network."""
        shape = tuple(map(len, blocks))
        if len(blocks) != len(self.choices) or not self._shapes <= {shape}:
            return False
        try:
            chosen = [block[i] for block, i in zip(blocks, self.choices, strict=True)]
        except IndexError:
            return False
        return {op for op in chosen if op is not None} <= set(self.network.parts)

    @cached_property
    def around(self) -> tuple[OpSpec, ...]:
        """The operators before those that were chosen; empty where the blocks are not known."""
        candidates = {op for block in self.blocks or () for op in block}
        return tuple(takewhile(lambda op: op not in candidates, self.network.parts))

    @property
    def choices(self) -> tuple[int, ...]:
        return tuple(self.result["choices"])

    @property
    def tried(self) -> list[tuple[str, float, Measurement | None]]:
        """The networks that were derived on the way: choices, ms predicted, and measured."""
        name, found = self.bounds[0].name, []
        for one in self.result["attempts"]:
            row = one["measured"].get(name)
            choices = ".".join(map(str, one["choices"]))
            measured = Measurement.from_dict(row) if row else None
            found.append((choices, one["predicted"][name], measured))
        return found

    @property
    def history(self) -> list[Mapping[str, Any]]:
        """Architecture steps, in order."""
        return list(self.result["history"])

    @property
    def bounds(self) -> list[Bound]:
        """The budgets of the search, at least one."""
        return [_bound(one) for one in self.result["budgets"]]

    def expected(self, bound: Bound) -> list[tuple[int, float]]:
        """(step, expected amount) of a bound's quantity while searching."""
        return self._over_steps("expected", bound)

    def multiplier(self, bound: Bound) -> list[tuple[int, float]]:
        """(step, multiplier) of a bound's penalty while searching."""
        return self._over_steps("multiplier", bound)

    def curve(self, name: str) -> list[tuple[int, Any]]:
        """(step, value) of what the history tells under a name: a loss, the entropy."""
        told = ((one.get("step"), one.get(name)) for one in self.history)
        return [(step, value) for step, value in told if step is not None and value is not None]

    @property
    def snapshots(self) -> list[tuple[int, list[list[float]]]]:
        """(step, probabilities of each block's candidates) of those steps that tell them."""
        return self.curve("probabilities")

    def _over_steps(self, field: str, bound: Bound) -> list[tuple[int, float]]:
        told = ((one["step"], one[field].get(bound.name)) for one in self.history)
        return [(step, value) for step, value in told if value is not None]


def _op(key: str | None) -> OpSpec | None:
    return None if key is None else OpSpec.parse(key)


def _bound(told: Mapping[str, Any]) -> Bound:
    def ends(what: str) -> Ends | None:
        low, high = (told.get(f"{what}_{end}") for end in ("low", "high"))
        return None if low is None or high is None else (low, high)

    return Bound(
        told["name"],
        told["unit"],
        told["limit"],
        told.get("predicted"),
        ends("predicted"),
        told.get("measured"),
        ends("measured"),
        told.get("meets"),
        told.get("table"),
    )
