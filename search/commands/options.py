"""Options that several commands have, and commands that take their options as a dataclass."""

import inspect
from collections.abc import Callable, Collection
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from latency.errors import UsageError
from search.jobs.target_names import known_targets

Options = TypeVar("Options")

Target = Annotated[
    str,
    typer.Option(help="Device card, table, or path to either.", autocompletion=known_targets),
]
Extrapolate = Annotated[
    bool,
    typer.Option("--extrapolate", help="Also predict operators that are far from the table's."),
]
InputShape = Annotated[
    str | None, typer.Option(help="Input shape if an ONNX file leaves it open, e.g. 1x3x224x224.")
]
Resolution = Annotated[
    int | None, typer.Option(help="Input resolution; the space's own if not given.")
]
Width = Annotated[float, typer.Option(help="Width multiplier of the space.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


def require_suffix(out: Path, *suffixes: str) -> None:
    """Raise `UsageError` if the name of an output file has none of these suffixes."""
    if out.suffix not in suffixes:
        raise UsageError(f"`out` {out}: the name should end in {' or '.join(suffixes)}")


def with_fields(
    kind: type[Options],
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """A decorator of `command(options)`: the command line has an option for each field of the
    dataclass `kind`."""

    def decorate(command: Callable[[Options], None]) -> Callable[..., None]:
        @wraps(command)
        def called(**options: Any) -> None:
            command(kind(**options))

        called.__signature__ = inspect.signature(kind)  # type: ignore[attr-defined]
        return called

    return decorate


def refuse_others(options: Any, used: Collection[str], why: str) -> None:
    """Raise `UsageError` if options other than those `used` differ from their defaults."""
    others = [
        f"`{one.name}`"
        for one in fields(options)
        if one.name not in used and getattr(options, one.name) != one.default
    ]
    if others:
        raise UsageError(f"{why}: leave out {', '.join(others)}")
