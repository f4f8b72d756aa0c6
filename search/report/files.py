"""result.json and pareto.json of `lat-search`, as reports read them.

Unknown fields are ignored. Numbers are finite and within plausible bounds.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)

from latency.errors import SpecError
from latency.files import read_file
from latency.operators.spec import OpSpec
from latency.units import format_amount
from search.settings import MOST_SEED
from search.validation import first_error

_MOST_BYTES = 2**28
_LARGEST = 10**18
_MOST_BLOCKS = 10_000

Stage = Literal["predicted", "measured"]


def _operator(key: object) -> OpSpec:
    try:
        return OpSpec.parse(str(key))
    except SpecError as error:
        raise ValueError(str(error)) from None


def _inside(name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        raise ValueError("leads out of the folder")
    return name


Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST)]
Integer = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST)]
Limit = Annotated[float, Field(gt=0, le=_LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Row = Annotated[list[Share], Field(min_length=1, max_length=_MOST_BLOCKS)]
Probabilities = Annotated[list[Row], Field(min_length=1, max_length=_MOST_BLOCKS)]
Choices = Annotated[list[Count], Field(max_length=_MOST_BLOCKS)]
Operator = Annotated[OpSpec, PlainValidator(_operator)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class _Measured(_Part):
    """`latency.tables.measurement.Measurement`, without what no report shows."""

    median_ms: Limit
    ci95_ms: Amount
    runs: Count
    min_ms: Amount


class _OpPrediction(_Part):
    """`latency.prediction.OpPrediction`."""

    op: Operator
    ms: Amount
    low_ms: Number
    high_ms: Number
    source: str


class SavedBudget(_Part):
    """`search.result.BudgetOutcome`."""

    name: str
    unit: str
    limit: Limit
    predicted: Amount | None = None
    predicted_low: Number | None = None
    predicted_high: Number | None = None
    measured: Amount | None = None
    measured_low: Number | None = None
    measured_high: Number | None = None
    meets: bool | None = None
    table: str | None = None

    def interval(self, stage: Stage) -> tuple[float, float, float] | None:
        """Value, low and high end of its 95 % interval; None if there is no value."""
        value, low, high = (getattr(self, f"{stage}{end}") for end in ("", "_low", "_high"))
        if value is None:
            return None
        return (value, value, value) if low is None or high is None else (value, low, high)

    def format(self, amount: float) -> str:
        """An amount with its unit."""
        return format_amount(amount, self.unit)


class _Attempt(_Part):
    """A network that was derived during the search."""

    choices: Choices
    predicted: dict[str, Amount]
    measured: dict[str, _Measured]


class _Step(_Part):
    step: Count
    train_loss: Number | None = None
    valid_loss: Number | None = None
    entropy: Number | None = None
    expected: dict[str, Number]
    multiplier: dict[str, Number]
    probabilities: Probabilities | None = None


class SavedNetwork(_Part):
    """A network that was found, or that is compared with it."""

    budget_ms: Limit | None = None
    choices: Choices | None = None
    predicted_ms: Amount | None = None
    measured_ms: Amount | None = None
    valid_accuracy: Share | None = None
    test_accuracy: Share | None = None
    macs: Count | None = None
    params: Count | None = None

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
    """A network of a Pareto front."""

    budget_ms: Limit


class _FrontFileNetwork(FrontNetwork):
    network: Annotated[str, Field(max_length=1000), AfterValidator(_inside)]


class _Environment(_Part):
    model_config = ConfigDict(extra="allow")

    files: dict[str, str] = {}


class _Head(_Part):
    target: str
    space: str
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)]
    version: str


class ResultFile(SavedNetwork, _Head):
    """result.json (`search.result.SearchResult`)."""

    budget_ms: Limit
    choices: Choices
    predicted_ms: Amount
    measured_ms: Amount | None
    valid_accuracy: Share
    test_accuracy: Share
    macs: Count
    params: Count
    settings: dict[str, str | bool | Integer | Number | None]
    table: str
    data: str
    strategy: str
    predicted_low_ms: Number
    predicted_high_ms: Number
    measured_low_ms: Number | None
    measured_high_ms: Number | None
    meets_budget: bool
    budgets: Annotated[list[SavedBudget], Field(min_length=1)]
    seconds: Amount
    candidates: list[list[Operator | None]]
    attempts: list[_Attempt]
    history: list[_Step]
    probabilities: Probabilities
    command: list[str]
    largest: SavedNetwork | None
    baselines: list[Baseline]
    pareto: list[FrontNetwork]
    environment: _Environment
    operators: dict[str, list[_OpPrediction]]

    @property
    def shapes(self) -> set[tuple[int, ...]]:
        """Candidates per block, wherever there are probabilities of them."""
        snapshots = [self.probabilities, *(step.probabilities for step in self.history)]
        return {tuple(map(len, rows)) for rows in snapshots if rows}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if len(self.shapes) > 1:
            raise ValueError("the probabilities are of different blocks")
        return self


class FrontFile(_Head):
    """pareto.json (`search.runs.front.Front`)."""

    data: str
    networks: list[_FrontFileNetwork]


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
