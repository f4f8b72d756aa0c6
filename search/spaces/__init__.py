"""Search spaces: shipped ones, and a user's own, from a TOML or a Python file."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from latency.errors import UsageError, unknown_name
from search.space import SearchSpace
from search.spaces import cifar_tree, own, staged
from search.spaces.bounds import check_options


def _staged(name: str, width: float = 1.0, **options: Any) -> SearchSpace:
    """The shipped space of the file NAME.toml."""
    described = staged.read(Path(__file__).parent / f"{name}.toml")
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


def shipped(name: str, **options: Any) -> SearchSpace:
    """The shipped space of this name. Opens and executes no user's file.

    `options`: `resolution`, `width`, `classes`, `batch`. Raises `UsageError` for an unknown name,
    and for an option out of its bounds (`search.spaces.bounds`).
    """
    check_options(options)
    if name not in _SPACES:
        unknown = unknown_name("space", name, _SPACES)
        raise UsageError(f"{unknown}; for your own space, `space` is FILE.toml or FILE.py")
    return replace(_SPACES[name](**options), words=_arguments(name, options))


def load(name: str, **options: Any) -> SearchSpace:
    """A shipped space by its name, or a user's own by the path of its file (`search.spaces.own`).
    A .py file is executed: use `shipped` for a name from a table or a result.

    `options` and errors as in `shipped`; also `UsageError` for a broken file.
    """
    check_options(options)
    if Path(name).suffix not in own.SUFFIXES:
        return shipped(name, **options)
    return replace(own.load(Path(name), **options), words=_arguments(name, options))


def _arguments(name: str, options: dict[str, Any]) -> str:
    """The command-line arguments after --space that load the space again."""
    given = {key: options.get(key) for key in ("resolution", "width", "classes")}
    if given["width"] == 1:
        del given["width"]
    flags = [f" --{key} {value}" for key, value in given.items() if value is not None]
    return shlex.quote(name) + "".join(flags)
