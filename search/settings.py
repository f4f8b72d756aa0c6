"""`SearchSettings`: every number of a search, with presets for the shipped spaces."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from latency.errors import UsageError, unknown_name
from search.validation import in_words

STRATEGIES = ("proxyless-g", "proxyless-r", "evolution")
BINARISATIONS = ("two", "full")
REWARDS = ("lagrangian", "mul", "log")
PENALTIES = ("lagrangian", "add#linear", "mul#log")
ARCH_SCHEDULES = ("cosine", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")

MOST_SEED = 2**64 - 1
"""The largest seed that torch takes."""
_MOST_WORKERS = 256
_MOST_STEPS = 10**9
_MOST_IMAGES = 2**16
_LARGEST_RATE = 1e30
"""Below what float32 holds."""

Steps = Annotated[int, Field(ge=1, le=_MOST_STEPS)]
StepsOrNone = Annotated[int, Field(ge=0, le=_MOST_STEPS)]
Images = Annotated[int, Field(ge=1, le=_MOST_IMAGES)]
Rate = Annotated[float, Field(ge=0, le=_LARGEST_RATE, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class SearchSettings:
    """Architecture: `search.strategies`. Weights: SGD with Nesterov momentum, cosine schedule,
    label smoothing; `warmup_steps` of them alone, then `search_steps` with an architecture step
    after every `arch_every`. The warm-up has a cosine of its own where `warmup_learning_rate`, its
    peak, is not 0; the architecture's learning rate falls to zero along half a cosine, too, unless
    `arch_schedule` is `constant`. It starts at `arch_learning_rate`; that of `proxyless-r` at
    `reinforce_learning_rate`, unless this is 0. The derived network is trained from scratch for
    `train_steps`. `path_dropout`: to what rate branches are left out of it then
    (`search.training.path_dropout`). `norm_batch_size`: images whose moments a batch norm goes by,
    0 for the whole batch. `workers`: processes that read and augment images ahead, a series of
    batches. `precision`: of what autocast lowers; weights and architecture parameters stay float32.
    Files and options are held to the bounds of each (`check_bounds`)."""

    strategy: str = "proxyless-g"
    binarisation: str = "two"
    penalty: str = "lagrangian"
    reward: str = "lagrangian"
    reinforce_networks: Annotated[int, Field(ge=1, le=10_000)] = 10
    reinforce_learning_rate: Rate = 0.0
    evolution_children: Annotated[int, Field(ge=1, le=10_000)] = 18
    warmup_steps: StepsOrNone = 400
    search_steps: Steps = 600
    arch_every: Steps = 2
    batch_size: Images = 64
    arch_batch_size: Images = 64
    learning_rate: Rate = 0.05
    warmup_learning_rate: Rate = 0.0
    arch_learning_rate: Rate = 1e-3
    arch_schedule: str = "cosine"
    train_steps: Steps = 500
    train_batch_size: Images = 64
    train_learning_rate: Rate = 0.05
    momentum: Share = 0.9
    weight_decay: Rate = 4e-5
    label_smoothing: Share = 0.1
    path_dropout: Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)] = 0.0
    norm_batch_size: Annotated[int, Field(ge=0, le=_MOST_IMAGES)] = 0
    workers: Annotated[int, Field(ge=0, le=_MOST_WORKERS)] = 0
    precision: str = "float32"

    def with_choices(
        self,
        steps: int | None = None,
        train_steps: int | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        norm_batch_size: int | None = None,
        **words: str | None,
    ) -> "SearchSettings":
        """The same settings with what the user chose; None keeps what is there.

        `steps` weight steps of the search are split between warm-up and search as before. A
        learning rate and a batch size are those of all trainings of weights, the batch size also
        that of architecture steps. `words`: `strategy`, `binarisation`, `penalty`, `reward`,
        `precision`. Raises `UsageError` for numbers and names that cannot be.
        """
        if steps is not None and steps < 2:
            raise UsageError(f"--steps {steps}: a search takes 2 steps or more")
        if train_steps is not None and train_steps < 1:
            raise UsageError(f"--train-steps {train_steps}: a training takes 1 step or more")
        if learning_rate is not None and not learning_rate > 0:
            raise UsageError(f"--learning-rate {learning_rate:g}: it is a number over 0")
        if batch_size is not None and batch_size < 2:
            raise UsageError(f"--batch-size {batch_size}: batch norm takes 2 images or more")
        if norm_batch_size is not None and norm_batch_size < 2:
            raise UsageError(f"--norm-batch {norm_batch_size}: batch norm takes 2 images or more")
        numbers = {
            "--steps": ("search_steps", steps),
            "--train-steps": ("train_steps", train_steps),
            "--learning-rate": ("learning_rate", learning_rate),
            "--batch-size": ("batch_size", batch_size),
            "--norm-batch": ("norm_batch_size", norm_batch_size),
        }
        for option, (name, number) in numbers.items():
            if number is not None:
                check_bounds(name, number, option)
        chosen: dict[str, Any] = {name: word for name, word in words.items() if word is not None}
        for name, word in chosen.items():
            if word not in _WORDS[name]:
                raise unknown_name(name, word, _WORDS[name])
        if learning_rate is not None:
            chosen |= dict.fromkeys(("learning_rate", "train_learning_rate"), learning_rate)
            chosen["warmup_learning_rate"] = learning_rate if self.warmup_learning_rate else 0.0
        if batch_size is not None:
            sizes = ("batch_size", "arch_batch_size", "train_batch_size")
            chosen |= dict.fromkeys(sizes, batch_size)
        total = self.warmup_steps + self.search_steps if steps is None else steps
        warmup = round(total * self.warmup_steps / (self.warmup_steps + self.search_steps))
        return replace(
            self,
            warmup_steps=warmup,
            search_steps=total - warmup,
            train_steps=train_steps or self.train_steps,
            norm_batch_size=norm_batch_size or self.norm_batch_size,
            **chosen,
        )

    @property
    def arch_steps(self) -> int | None:
        """Architecture steps over which their learning rate falls; None where it does not."""
        if self.arch_schedule == "constant":
            return None
        return self.search_steps // self.arch_every

    @property
    def search_cosines(self) -> tuple[tuple[float, int], ...]:
        """Peak and steps of each cosine of the supernet's training
        (`search.training.optimizer.Cosines`)."""
        parts = (
            (self.warmup_learning_rate, self.warmup_steps),
            (self.learning_rate, self.search_steps),
        )
        if self.warmup_learning_rate:
            return parts
        return ((self.learning_rate, self.warmup_steps + self.search_steps),)

    @property
    def as_dict(self) -> dict[str, object]:
        """What a result depends on: all but `workers`."""
        return {name: value for name, value in asdict(self).items() if name != "workers"}


def check_bounds(name: str, value: float, said: str) -> None:
    """Raises `UsageError`, which calls it what it is `said` to be, for a value that a setting of
    this name cannot have."""
    (kind,) = (one.type for one in fields(SearchSettings) if one.name == name)
    adapter: TypeAdapter[float] = TypeAdapter(kind)
    try:
        adapter.validate_python(value, strict=True)
    except ValidationError as error:
        raise UsageError(f"{said}: {in_words(error)}") from None


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
"""Settings that a run may be resumed with others of: what a step that failed asks to lower."""

_WORDS = {
    "strategy": STRATEGIES,
    "binarisation": BINARISATIONS,
    "penalty": PENALTIES,
    "reward": REWARDS,
    "arch_schedule": ARCH_SCHEDULES,
    "precision": PRECISIONS,
}
"""Settings that are one of a few words."""

MINI = SearchSettings(
    warmup_steps=300,
    search_steps=600,
    batch_size=32,
    arch_batch_size=32,
    arch_learning_rate=0.04,
    train_steps=300,
    train_batch_size=32,
)
"""For a search of minutes. Its few hundred architecture steps move alpha as far as the paper's
tens of thousands do at their rate of 0.001."""

PROXYLESS = SearchSettings(
    warmup_steps=100,
    search_steps=200,
    batch_size=16,
    arch_batch_size=16,
    arch_learning_rate=0.1,
    train_steps=140,
    train_batch_size=32,
)
"""For a search on two CPU cores in minutes."""

_OF_SHIPPED: Mapping[str, SearchSettings] = {
    "mini": MINI,
    "mini-tree": MINI,
    "proxyless": PROXYLESS,
    "proxyless-cifar": PROXYLESS,
}
"""Settings of shipped spaces, whose names may end in their width."""
_WIDTH = re.compile(r"-w[0-9][0-9.]*$")
_SMALL = 64
"""Pixels of images that are small."""


def preset(space: str, resolution: int = 224) -> SearchSettings:
    """The settings that suit a shipped space of exactly this name, at any width; of other spaces,
    those for images of its size."""
    by_size = MINI if resolution <= _SMALL else PROXYLESS
    return _OF_SHIPPED.get(_WIDTH.sub("", space), by_size)
