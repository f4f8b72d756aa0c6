"""result.json and pareto.json of `lat-search`, as reports read them.

Unknown fields are ignored. Numbers are finite and within plausible bounds.
"""

from operator import ge, lt
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from latency.errors import SpecError
from latency.files import read_file
from latency.operators.spec import OpSpec
from latency.toml_file import first_error
from latency.units import format_amount

_MOST_BYTES = 2**28

Stage = Literal["predicted", "measured"]


def _operator(key: object) -> OpSpec:
    try:
        return OpSpec.parse(str(key))
    except SpecError as error:
        raise ValueError(str(error)) from None


Share = Annotated[float, Field(ge=0, le=1)]
Choices = list[NonNegativeInt]
Operator = Annotated[OpSpec, PlainValidator(_operator)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class _Measured(_Part):
    median_ms: PositiveFloat
    ci95_ms: NonNegativeFloat
    runs: NonNegativeInt
    min_ms: NonNegativeFloat


class SavedOperator(_Part):
    """`latency.prediction.OpPrediction`."""

    op: Operator
    ms: NonNegativeFloat
    low_ms: float
    high_ms: float
    source: str


class SavedBudget(_Part):
    """`search.result.BudgetOutcome`."""

    name: str
    unit: str
    limit: PositiveFloat
    predicted: NonNegativeFloat
    predicted_low: float
    predicted_high: float
    measured: NonNegativeFloat | None
    measured_low: float | None
    measured_high: float | None
    table: str | None = None

    def interval(self, stage: Stage) -> tuple[float, float, float] | None:
        """Value, low and high end of its 95 % interval; None if there is no value."""
        value, low, high = (getattr(self, f"{stage}{end}") for end in ("", "_low", "_high"))
        return None if value is None else (value, low, high)

    def format(self, amount: float) -> str:
        """An amount with its unit."""
        return format_amount(amount, self.unit)


class _Attempt(_Part):
    """A network that was derived during the search."""

    measured: dict[str, _Measured]


class _Step(_Part):
    step: NonNegativeInt
    train_loss: float
    valid_loss: float
    entropy: float
    expected: dict[str, float]
    multiplier: dict[str, float]
    probabilities: list[list[Share]] | None = None


class SavedNetwork(_Part):
    """A network that was found, or that is compared with it."""

    budget_ms: PositiveFloat | None = None
    choices: Choices | None = None
    predicted_ms: NonNegativeFloat | None = None
    measured_ms: NonNegativeFloat | None = None
    valid_accuracy: Share | None = None
    test_accuracy: Share | None = None
    macs: NonNegativeInt | None = None
    params: NonNegativeInt | None = None

    @property
    def ms(self) -> float:
        """The measured latency, or else the predicted one; 0 without either."""
        return self.measured_ms or self.predicted_ms or 0.0

    @property
    def accuracy(self) -> float | None:
        """On the test split, or else on the validation split."""
        return self.valid_accuracy if self.test_accuracy is None else self.test_accuracy


class Baseline(SavedNetwork):
    """A network found without a search."""

    name: str


class FrontNetwork(SavedNetwork):
    """A network of a Pareto front, and the file that it is in."""

    budget_ms: PositiveFloat
    network: str = ""


class _Environment(_Part):
    model_config = ConfigDict(extra="allow")

    files: dict[str, str] = {}


class _Head(_Part):
    target: str
    space: str
    data: str
    seed: NonNegativeInt
    version: str


class ResultFile(SavedNetwork, _Head):
    """result.json (`search.result.SearchResult`)."""

    budget_ms: PositiveFloat
    choices: Choices
    valid_accuracy: Share
    test_accuracy: Share
    settings: dict[str, str | bool | int | float | None]
    table: str
    strategy: str
    meets_budget: bool
    budgets: Annotated[list[SavedBudget], Field(min_length=1)]
    seconds: NonNegativeFloat
    candidates: list[list[Operator | None]]
    attempts: list[_Attempt]
    history: list[_Step]
    command: list[str]
    baselines: list[Baseline]
    environment: _Environment
    operators: dict[str, list[SavedOperator]]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        counts = [len(block) for block in self.candidates]
        if len(self.choices) != len(counts) or any(map(ge, self.choices, counts)):
            raise ValueError("the choices are not of its candidates")
        for rows in (step.probabilities for step in self.history if step.probabilities):
            if len(rows) != len(counts) or any(map(lt, map(len, rows), counts)):
                raise ValueError("the probabilities are not of its candidates")
        return self


class FrontFile(_Head):
    """pareto.json (`search.runs.front.Front`)."""

    networks: list[FrontNetwork]


Kind = TypeVar("Kind", bound=BaseModel)


def read_back(path: Path, kind: type[Kind], what: str) -> Kind:
    """Read a file that lat-search wrote. Raises `SpecError`, in one line, if it is not `what`."""
    try:
        return kind.model_validate_json(read_file(path, _MOST_BYTES, SpecError))
    except ValidationError as error:
        missing = [one["loc"] for one in error.errors() if one["type"] == "missing"]
        names = ", ".join(str(name) for name, *inner in missing if not inner)
        cause = f"{names} is missing" if names else first_error(error)
        raise SpecError(f"{path}: not {what} of lat-search: {cause}") from None
