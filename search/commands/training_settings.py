"""The settings of a training, from a file and from options."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from latency.errors import UsageError
from search.console import notice
from search.presets import load_settings
from search.settings import SearchSettings, preset

if TYPE_CHECKING:
    from search.data import Dataset

_STRATEGIES = {
    "binarisation": ("proxyless-g",),
    "reward": ("proxyless-r",),
    "penalty": ("proxyless-g", "proxyless-r"),
}
"""The strategies that a setting is of."""


def settings_for(
    name: str | None, space: str, resolution: int, data: "Dataset", choices: Mapping[str, Any]
) -> SearchSettings:
    """The settings of this name, or the usual ones of a space; with the user's `choices`
    (`SearchSettings.with_choices`). A notice if a batch size makes epochs of a file more or fewer.
    Raises `UsageError` for choices that the strategy does not use."""
    if name is None:
        settings = preset(space, resolution).with_choices(**choices)
        _require_use(settings.strategy, choices)
        return settings
    images, size = len(data.train), choices.get("batch_size")
    settings = load_settings(name, images).with_choices(**choices)
    _require_use(settings.strategy, choices)
    if size is None:
        return settings
    own = load_settings(name, images, size).with_choices(**choices)
    steps, train_steps = _steps(own)
    if _steps(settings) != (steps, train_steps):
        notice(
            f"--batch-size {size}: the epochs of --settings {name} are counted in its own batches; "
            f"in these they are --steps {steps} --train-steps {train_steps}"
        )
    return settings


def _require_use(strategy: str, choices: Mapping[str, Any]) -> None:
    for name, strategies in _STRATEGIES.items():
        if choices.get(name) is not None and strategy not in strategies:
            raise UsageError(
                f"--{name} {choices[name]}: the strategy {strategy} has none; it is of --strategy "
                f"{' and '.join(strategies)}"
            )


def _steps(settings: SearchSettings) -> tuple[int, int]:
    """Of the search, and of the training of what it finds."""
    return settings.warmup_steps + settings.search_steps, settings.train_steps
