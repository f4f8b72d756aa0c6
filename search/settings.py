"""`SearchSettings`: the hyperparameters of a search, with presets for the shipped spaces."""

import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from latency.errors import UsageError
from latency.toml_file import first_error

Strategy = Literal["proxyless-g", "proxyless-r", "evolution"]
Binarisation = Literal["two", "full"]
Penalty = Literal["lagrangian", "add#linear", "mul#log"]
Reward = Literal["lagrangian", "mul", "log"]
Precision = Literal["float32", "bfloat16", "float16"]
BINARISATIONS, PENALTIES, REWARDS = map(get_args, (Binarisation, Penalty, Reward))

MOST_SEED = 2**64 - 1
"""The largest seed that torch accepts."""
MOST_STEPS = 10**9
_MOST_IMAGES = 2**16

Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Images = Annotated[int, Field(ge=1, le=_MOST_IMAGES)]
Rate = Annotated[float, Field(ge=0, le=1e30, allow_inf_nan=False)]  # in the range of float32
PositiveRate = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class SearchSettings:
    """Weights: SGD with Nesterov momentum, cosine schedule and label smoothing, for `warmup_steps`
    alone and then for `search_steps`, with an architecture step (`search.strategies`) after every
    `arch_every`. The warm-up has its own cosine if its peak `warmup_learning_rate` is not 0.

    The architecture's learning rate starts at `arch_learning_rate` (for `proxyless-r` at
    `reinforce_learning_rate`, unless it is 0), and falls to zero along half a cosine unless
    `arch_schedule` is `constant`.

    The derived network is trained from scratch for `train_steps`, with path dropout that rises to
    the rate `path_dropout` (`search.training.path_dropout`).

    `norm_batch_size`: images per batch norm group, 0 for the whole batch. `workers`: processes that
    read ahead, per series of batches. `precision`: of autocast; weights and architecture parameters
    stay float32. Raises `UsageError` for unknown names and for numbers out of their bounds.
    """

    strategy: Strategy = "proxyless-g"
    binarisation: Binarisation = "two"
    penalty: Penalty = "lagrangian"
    reward: Reward = "lagrangian"
    reinforce_networks: Annotated[int, Field(ge=1, le=10_000)] = 10
    reinforce_learning_rate: Rate = 0.0
    evolution_children: Annotated[int, Field(ge=1, le=10_000)] = 18
    warmup_steps: Annotated[int, Field(ge=0, le=MOST_STEPS)] = 400
    search_steps: Steps = 600
    arch_every: Steps = 2
    batch_size: Images = 64
    arch_batch_size: Images = 64
    learning_rate: PositiveRate = 0.05
    warmup_learning_rate: Rate = 0.0
    arch_learning_rate: Rate = 1e-3
    arch_schedule: Literal["cosine", "constant"] = "cosine"
    train_steps: Steps = 500
    train_batch_size: Images = 64
    train_learning_rate: PositiveRate = 0.05
    momentum: Share = 0.9
    weight_decay: Rate = 4e-5
    label_smoothing: Share = 0.1
    path_dropout: Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = 0.0
    norm_batch_size: Annotated[int, Field(ge=0, le=_MOST_IMAGES)] = 0
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_bounds(name, value, f"`{name}`")

    def with_choices(
        self,
        steps: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        **others: Any,
    ) -> "SearchSettings":
        """Override settings; None keeps a value.

        `steps`: total of warm-up and search, split in the present ratio. `learning_rate` and
        `batch_size` apply to the search and the final training, `batch_size` to architecture steps,
        too. `others`: settings by name. Raises `UsageError` for invalid values.
        """
        chosen = {name: value for name, value in others.items() if value is not None}
        if steps is not None:
            total = self.warmup_steps + self.search_steps
            chosen["warmup_steps"] = round(steps * self.warmup_steps / total)
            chosen["search_steps"] = steps - chosen["warmup_steps"]
        if learning_rate is not None:
            chosen |= dict.fromkeys(("learning_rate", "train_learning_rate"), learning_rate)
            chosen["warmup_learning_rate"] = learning_rate if self.warmup_learning_rate else 0.0
        if batch_size is not None:
            sizes = ("batch_size", "arch_batch_size", "train_batch_size")
            chosen |= dict.fromkeys(sizes, batch_size)
        return replace(self, **chosen)

    @property
    def arch_steps(self) -> int | None:
        """Architecture steps over which the learning rate falls; None if it is constant."""
        if self.arch_schedule == "constant":
            return None
        return self.search_steps // self.arch_every

    @property
    def search_cosines(self) -> tuple[tuple[float, int], ...]:
        """`search.training.optimizer.Cosines.parts` of the supernet's training."""
        if not self.warmup_learning_rate:
            return ((self.learning_rate, self.warmup_steps + self.search_steps),)
        return (
            (self.warmup_learning_rate, self.warmup_steps),
            (self.learning_rate, self.search_steps),
        )

    @property
    def as_dict(self) -> dict[str, object]:
        """The settings that affect a result: all but `workers`."""
        return {name: value for name, value in asdict(self).items() if name != "workers"}


def check_bounds(name: str, value: object, label: str) -> None:
    """Raises `UsageError`, which begins with `label`, for a value that the setting `name` does not
    allow."""
    kind: Any = SearchSettings.__dataclass_fields__[name].type
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise UsageError(f"{label}: {first_error(error)}") from None


RESUMABLE = (
    "learning_rate",
    "warmup_learning_rate",
    "train_learning_rate",
    "batch_size",
    "arch_batch_size",
    "train_batch_size",
    "norm_batch_size",
    "precision",
)
"""Settings that may change when a run is resumed, as the errors of failed steps suggest."""

MINI = SearchSettings(
    warmup_steps=300,
    search_steps=600,
    batch_size=32,
    arch_batch_size=32,
    arch_learning_rate=0.04,
    train_steps=300,
    train_batch_size=32,
)
"""For a search of minutes. Its few hundred architecture steps change alpha as much as tens of
thousands at the paper's learning rate of 0.001."""

PROXYLESS = SearchSettings(
    warmup_steps=100,
    search_steps=200,
    batch_size=16,
    arch_batch_size=16,
    arch_learning_rate=0.1,
    train_steps=140,
    train_batch_size=32,
)
"""For a search of minutes on two CPU cores."""

SMALL_IMAGES = 64
"""Largest resolution, in pixels, of small images."""


def preset(space: str, resolution: int = 224) -> SearchSettings:
    """The settings for a shipped space, at any width; for other spaces, by their resolution."""
    name = re.sub(r"-w[0-9][0-9.]*$", "", space)
    if name in ("proxyless", "proxyless-cifar"):
        return PROXYLESS
    return MINI if name in ("mini", "mini-tree") or resolution <= SMALL_IMAGES else PROXYLESS
