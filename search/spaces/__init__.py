"""The shipped search spaces: one file a space, each with a function `build`."""

from collections.abc import Callable

from latency.errors import unknown_name
from search.space import SearchSpace
from search.spaces import mini, proxyless

_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "mini": mini.build,
    "proxyless": proxyless.build,
}


def known() -> tuple[str, ...]:
    """Names of the shipped spaces."""
    return tuple(_SPACES)


def load(name: str, **options) -> SearchSpace:
    """The space of this name; `options` are those of its `build` (`resolution`, `width`,
    `classes`, `batch`). Raises `UsageError` for unknown names."""
    if name not in _SPACES:
        raise unknown_name("space", name, _SPACES)
    return _SPACES[name](**options)
