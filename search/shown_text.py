"""Text from files on a terminal, with control characters escaped: names of tables, networks, cards
and ONNX files may contain escape sequences."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

_CONTROL = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
"""Control characters except tab and line feed, marks of writing direction, lone surrogates."""


def shown(text: str) -> str:
    """The text with control characters escaped.

    >>> shown("red: \\x1b[31m")
    'red: \\\\x1b[31m'
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class PlainConsole(Console):
    """A console without markup, emoji names and control characters in text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else shown(text), style, control)


class _PlainStream:
    """Escapes the text that is written to it. Rich, which writes escape sequences itself, uses
    `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(shown(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Escape control characters in everything printed inside this context."""
    with redirect_stdout(cast(TextIO, _PlainStream(sys.stdout))):
        yield


def output_console() -> Console:
    """A console on standard output."""
    stream: Any = sys.stdout
    return PlainConsole(file=stream.stream if isinstance(stream, _PlainStream) else stream)
