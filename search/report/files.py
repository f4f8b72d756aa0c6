"""What `lat-search` wrote, read back and checked: result.json and pareto.json.

Fields that are not known are let pass. Numbers are finite, and no larger or smaller than they can
be.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from latency.errors import SpecError
from latency.files import read_file
from search.settings import MOST_SEED
from search.validation import in_words

_MOST_BYTES = 2**28
_LARGEST = 1e18
_MOST_BLOCKS = 10_000

Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]
Integer = Annotated[int, Field(ge=-(10**18), le=10**18)]
Amount = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Limit = Annotated[float, Field(gt=0, le=_LARGEST, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**18)]
Row = Annotated[list[Share], Field(min_length=1, max_length=_MOST_BLOCKS)]
Probabilities = Annotated[list[Row], Field(min_length=1, max_length=_MOST_BLOCKS)]
Choices = Annotated[list[Count], Field(max_length=_MOST_BLOCKS)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class _Measured(_Part):
    """`latency.tables.measurement.Measurement`."""

    median_ms: Limit
    ci95_ms: Amount
    runs: Count
    min_ms: Amount
    measured_at: str = ""
    sessions: Count = Field(1, validation_alias=AliasChoices("sessions", "sittings"))
    converged: bool | None = None
    memory_bytes: Count | None = None
    temperature_c: Number | None = None
    frequency_mhz: Number | None = None
    note: str = ""
    traced_ms: Amount | None = None


class _Operator(_Part):
    """`latency.prediction.OpPrediction`."""

    op: str
    ms: Amount
    low_ms: Number
    high_ms: Number
    source: str


class _Budget(_Part):
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


class _Attempt(_Part):
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


class _Head(_Part):
    target: str
    space: str


class _Network(_Part):
    """One to compare with, or of a front."""

    budget_ms: Limit | None = None
    choices: Choices | None = None
    predicted_ms: Amount | None = None
    measured_ms: Amount | None = None
    valid_accuracy: Share | None = None
    test_accuracy: Share | None = None
    macs: Count | None = None
    params: Count | None = None


class _Named(_Network):
    name: str


class _OfFront(_Network):
    budget_ms: Limit


def _inside(name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        raise ValueError("leads out of the folder")
    return name


class _Drawn(_OfFront):
    network: Annotated[str, Field(max_length=1000), AfterValidator(_inside)]


class ResultFile(_Network, _Head):
    """result.json (`search.result.SearchResult`)."""

    budget_ms: Limit
    predicted_ms: Amount
    measured_ms: Amount | None
    valid_accuracy: Share
    test_accuracy: Share
    macs: Count
    params: Count
    choices: Choices
    settings: dict[str, str | bool | Integer | Number | None]
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)]
    table: str
    version: str
    data: str
    strategy: str
    predicted_low_ms: Number
    predicted_high_ms: Number
    measured_low_ms: Number | None
    measured_high_ms: Number | None
    meets_budget: bool
    budgets: Annotated[list[_Budget], Field(min_length=1)]
    seconds: Amount
    candidates: list[list[str | None]]
    attempts: list[_Attempt]
    history: list[_Step]
    probabilities: Probabilities
    command: list[str]
    largest: _Network | None
    baselines: list[_Named]
    pareto: list[_OfFront]
    environment: dict[str, Any]
    operators: dict[str, list[_Operator]]


class FrontFile(_Head):
    """pareto.json (`search.runs.front.Front`)."""

    data: str
    seed: Annotated[int, Field(ge=0, le=MOST_SEED)]
    version: str
    networks: list[_Drawn]


Kind = TypeVar("Kind", bound=BaseModel)


def read_back(path: Path, kind: type[Kind], what: str) -> dict[str, Any]:
    """What a file says, without the fields that it lacks. `SpecError`, one line, where it is not
    `what` lat-search wrote."""
    try:
        content = read_file(path, _MOST_BYTES, SpecError)
        return kind.model_validate_json(content).model_dump(exclude_unset=True)
    except ValidationError as error:
        absent = [
            str(one["loc"][0])
            for one in error.errors()
            if one["type"] == "missing" and len(one["loc"]) == 1
        ]
        said = f"{', '.join(absent)} is absent" if absent else in_words(error)
        raise SpecError(f"{path}: not {what} of lat-search: {said}") from None
