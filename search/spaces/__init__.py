"""Search spaces: shipped ones, and a user's own, from a TOML or a Python file."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from latency.errors import UsageError, unknown_name
from latency.toml_file import read_toml
from search.space import SearchSpace
from search.spaces import cifar_tree, own
from search.spaces.bounds import check_options
from search.spaces.staged import StagedSpace


def _staged(name: str, width: float = 1.0, **options: Any) -> SearchSpace:
    """The shipped space of the file NAME.toml."""
    described = read_toml(Path(__file__).parent / f"{name}.toml", StagedSpace)
    full_name = name if width == 1 else f"{name}-w{width:g}"
    return described.build(full_name, width=width, **options)


_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "mini": partial(_staged, "mini"),
    "proxyless": partial(_staged, "proxyless"),
    "mbv3": partial(_staged, "mbv3"),
    "proxyless-cifar": cifar_tree.build,
    "mini-tree": cifar_tree.build_mini,
}


def known() -> tuple[str, ...]:
    """Names of the shipped spaces."""
    return tuple(_SPACES)


def load(name: str, **options: Any) -> SearchSpace:
    """A shipped space by its name, or a user's own by the path of its file (`search.spaces.own`). A
    .py file is executed, so never pass a name from a table or a result.

    `options`: `resolution`, `width`, `classes`, `batch`. Raises `UsageError` for an unknown name, a
    broken file, and an option out of its bounds (`search.spaces.bounds`).
    """
    check_options(options)
    if Path(name).suffix in own.SUFFIXES:
        space = own.load(Path(name), **options)
    elif name in _SPACES:
        space = _SPACES[name](**options)
    else:
        unknown = unknown_name("space", name, _SPACES)
        raise UsageError(f"{unknown}; for your own space, `space` is FILE.toml or FILE.py")
    given = {key: options.get(key) for key in ("resolution", "width", "classes")}
    flags = [
        f" --{key} {value}"
        for key, value in given.items()
        if value is not None and (key, value) != ("width", 1)
    ]
    return replace(space, arguments=shlex.quote(name) + "".join(flags))
