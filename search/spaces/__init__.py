"""The search spaces: shipped ones, most of them TOML files, and a user's own, from a TOML or
a Python file."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from latency.errors import UsageError, unknown_name
from search.space import SearchSpace
from search.spaces import cifar_tree, own, staged
from search.spaces.bounds import check_options


def _staged(name: str) -> Callable[..., SearchSpace]:
    """The shipped space of the file NAME.toml."""

    def build(width: float = 1.0, **options: Any) -> SearchSpace:
        described = staged.read(Path(str(files("search.spaces"))) / f"{name}.toml")
        full_name = name if width == 1 else f"{name}-w{width:g}"
        return described.build(full_name, width=width, **options)

    return build


_SPACES: dict[str, Callable[..., SearchSpace]] = {
    "mini": _staged("mini"),
    "proxyless": _staged("proxyless"),
    "mbv3": _staged("mbv3"),
    "proxyless-cifar": cifar_tree.build,
    "mini-tree": cifar_tree.build_mini,
}


def known() -> tuple[str, ...]:
    """Names of the shipped spaces."""
    return tuple(_SPACES)


def shipped(name: str, **options: Any) -> SearchSpace:
    """The shipped space of this name; `options` are those of its `build`: `resolution`, `width`,
    `classes`, `batch`. Opens and executes no file of a user's. Raises `UsageError` for unknown
    names, and for options that cannot be (`search.spaces.bounds`)."""
    check_options(options)
    if name not in _SPACES:
        unknown = unknown_name("space", name, _SPACES)
        raise UsageError(f"{unknown}; a space of your own is a file: --space FILE.toml or FILE.py")
    return replace(_SPACES[name](**options), words=_words(name, options))


def load(name: str, **options: Any) -> SearchSpace:
    """The space that a user named: a shipped one, or their own by the path of its file
    (`search.spaces.own`). A .py file is executed: what was read from a table or a result is for
    `shipped`.

    `options` as of `shipped`. Raises `UsageError` for unknown names, broken files, and options that
    cannot be.
    """
    check_options(options)
    if Path(name).suffix not in own.SUFFIXES:
        return shipped(name, **options)
    return replace(own.load(Path(name), **options), words=_words(name, options))


def _words(name: str, options: dict[str, Any]) -> str:
    """What loads the space again, after --space."""
    given = {key: options.get(key) for key in ("resolution", "width", "classes")}
    if given["width"] == 1:
        del given["width"]
    said = [f" --{key} {value}" for key, value in given.items() if value is not None]
    return shlex.quote(name) + "".join(said)
