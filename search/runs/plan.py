"""What a search is asked for, brought together and checked before any work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latency.errors import UsageError
from search import spaces
from search.budget import SIZES, AskedBudget, Budget, check_together, within_memory
from search.console import notice
from search.data import Dataset
from search.jobs.targets import resolve
from search.presets import load_settings
from search.runs.goals import Goal, goal_of, memory_limit, size_budgets
from search.runs.measuring import AsYouGo
from search.settings import SearchSettings, preset
from search.space import SearchSpace, space_at
from search.strategies.hardware_loss import HardwareTerm


@dataclass(frozen=True)
class Asked:
    """Budgets, and the space they are for. `predicted`: operators that a table lacks are not
    measured; `as_you_go`: they are during the search, those first that matter most. `sigmas`:
    budgets hold for the mean and so many standard deviations. `settings` and `choices`: see
    `settings_for`."""

    budgets: Sequence[AskedBudget]
    space: str
    settings: str | None
    choices: Mapping[str, Any]
    resolution: int | None = None
    width: float = 1.0
    predicted: bool = False
    as_you_go: bool = False
    sigmas: float = 2.0


@dataclass(frozen=True)
class SearchPlan:
    """A search's targets with their budgets, the first of which it makes use of; budgets of sizes;
    the space, for the first target's batch, what measures during the search, if anything does, and
    the bytes that activations may take, where that is limited: the space has no candidate that
    takes more, `whole` has these, too. `sigmas`: see `Asked`."""

    goals: tuple[Goal, ...]
    sizes: tuple[Budget, ...]
    space: SearchSpace
    settings: SearchSettings
    as_you_go: AsYouGo | None = None
    memory: float | None = None
    sigmas: float = 2.0
    whole: SearchSpace | None = None

    @classmethod
    def of(
        cls,
        asked: Asked,
        data: Dataset,
        quiet: bool = False,
        before_measuring: Callable[[SearchSpace], None] = lambda space: None,
    ) -> "SearchPlan":
        """The plan for a data set. Settings are checked first; then operators that a table lacks
        are measured, after `before_measuring` has seen the space. Raises `LatError` for what cannot
        be."""
        names = [one.name for one in asked.budgets if one.name and one.name not in SIZES]
        alone = _space(asked, 1, data.classes)
        settings = settings_for(asked.settings, alone.name, alone.resolution, data, asked.choices)
        before_measuring(alone)
        targets = {name: resolve(name) for name in names}
        memory = memory_limit(asked.budgets)
        whole = space_at(alone, max(target.batch for target in targets.values()))
        within = whole if memory is None else within_memory(whole, memory)
        own = {name: space_at(within, target.batch) for name, target in targets.items()}
        space = own[names[0]]
        as_you_go = AsYouGo(targets[names[0]], space, asked.sigmas) if asked.as_you_go else None
        words = asked.sigmas, asked.predicted, quiet
        goals = [
            as_you_go.goal(one)
            if as_you_go and one.name == names[0]
            else goal_of(targets[one.name], own[one.name], one, *words)
            for one in asked.budgets
            if one.name in targets
        ]
        sizes = size_budgets(space, asked.budgets)
        rest = as_you_go, memory, asked.sigmas, space_at(whole, targets[names[0]].batch)
        return cls(tuple(goals), tuple(sizes), space, settings, *rest)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return (*(goal.budget for goal in self.goals), *self.sizes)

    def check(self) -> None:
        """Raises `LatError` where no network can meet the budgets, or a search with the settings
        cannot be held to them; tells of a budget that holds nothing back."""
        for budget in self.budgets:
            if text := budget.check():
                notice(text)
        check_together(self.budgets)
        HardwareTerm(self.budgets, self.settings.penalty)


def settings_for(
    name: str | None, space: str, resolution: int, data: Dataset, words: Mapping[str, Any]
) -> SearchSettings:
    """The settings of this name, or the usual ones of a space; with what the user chose besides.
    Tells of a batch size that makes epochs of a file more or fewer. Raises `UsageError` for words
    that mean nothing to the strategy."""
    if name is None:
        settings = preset(space, resolution).with_choices(**words)
        _require_of_use(settings.strategy, words)
        return settings
    images, size = len(data.train), words.get("batch_size")
    settings = load_settings(name, images).with_choices(**words)
    _require_of_use(settings.strategy, words)
    if size is None:
        return settings
    steps, train_steps = _steps(load_settings(name, images, size).with_choices(**words))
    if _steps(settings) != (steps, train_steps):
        notice(
            f"--batch-size {size}: the epochs of --settings {name} are counted in its own batches; "
            f"in these they are --steps {steps} --train-steps {train_steps}"
        )
    return settings


_STRATEGIES = {
    "binarisation": ("proxyless-g",),
    "reward": ("proxyless-r",),
    "penalty": ("proxyless-g", "proxyless-r"),
}
"""The strategies that a setting is of."""


def _require_of_use(strategy: str, words: Mapping[str, Any]) -> None:
    for name, strategies in _STRATEGIES.items():
        if words.get(name) is not None and strategy not in strategies:
            raise UsageError(
                f"--{name} {words[name]}: the strategy {strategy} has none; it is of --strategy "
                f"{' and '.join(strategies)}"
            )


def _steps(settings: SearchSettings) -> tuple[int, int]:
    """Of the search, and of the training of what it finds."""
    return settings.warmup_steps + settings.search_steps, settings.train_steps


def _space(asked: Asked, batch: int, classes: int) -> SearchSpace:
    """The space that is asked for, for a batch."""
    options: dict[str, Any] = {"width": asked.width, "classes": classes, "batch": batch}
    if asked.resolution is not None:
        options["resolution"] = asked.resolution
    return spaces.load(asked.space, **options)
