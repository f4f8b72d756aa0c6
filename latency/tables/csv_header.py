"""The `# key: value` lines of a table's file, read one by one."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency.errors import SpecError, TableError
from latency.units import plain_number, plain_whole

FORMAT_VERSION = "1"
TRANSFER = "transferred"
"""Followed by a space, the key of the line that marks its rows as transferred."""


def comment_lines(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The lines that begin with "#", by their numbers; also as spreadsheets write them: in quotes
    where they have a comma, and with as many commas behind as make all lines as wide."""
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            yield number, line.rstrip(", ")
        elif line.startswith('"#'):
            yield number, ",".join(next(csv.reader([line]))).rstrip(", ")


@dataclass(frozen=True)
class Header:
    """Values by their keys, and the keys' `lines`. What is popped is gone from `values`; an error
    names file and line."""

    path: Path
    values: dict[str, str]
    lines: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, comments: Mapping[int, str]) -> "Header":
        """The header of these lines, which are of the format that is read."""
        values: dict[str, str] = {}
        lines: dict[str, int] = {}
        for number, line in comments.items():
            key, colon, value = line[1:].partition(":")
            if not colon:
                raise TableError(f"{path}:{number}: expected '# key: value', found '{line[:100]}'")
            key = key.strip()
            if key in values:
                raise TableError(f"{path}:{number}: '# {key}:' stands in the header twice")
            values[key], lines[key] = value.strip(), number
        version = values.pop("format", None)
        if version != FORMAT_VERSION:
            found = f"format version {version}" if version else "no '# format:' line"
            raise TableError(
                f"{path}:1: {found}; this version of the tool reads format {FORMAT_VERSION}"
            )
        return cls(path, values, lines)

    def pop_fields(self, kinds: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
        """The values of those of these keys that are there, each as its kind reads it."""
        found = {}
        for key, kind in kinds.items():
            if key in self.values:
                try:
                    found[key] = kind(self.values.pop(key))
                except ValueError as error:
                    raise self._broken(key, error) from None
        return found

    def pop_per_space(self, what: str, kind: Callable[..., Any]) -> dict[str, Any]:
        """By space, what the lines `# WHAT SPACE: name=number ...` say."""
        found = {}
        for key in [key for key in self.values if key.startswith(f"{what} ")]:
            try:
                parts = [part.split("=") for part in self.values.pop(key).split()]
                numbers = {name: _number(text) for name, text in parts}
                if len(numbers) < len(parts):
                    raise ValueError("it has a name twice")
                found[key.removeprefix(f"{what} ")] = kind(**numbers)
            except (ValueError, TypeError, SpecError) as error:
                raise self._broken(key, error) from None
        return found

    def check_transfers(self, validations: Mapping[str, Any]) -> None:
        """Raise `TableError` for a transferred space without a validation of it."""
        for key in self.values:
            space = key.removeprefix(f"{TRANSFER} ")
            if space != key and space not in validations:
                raise self._broken(key, f"no '# validation {space}:' says by how much it is off")

    def check(self, key: str, read: Callable[[str], Any]) -> None:
        """Raise `TableError` for a value of this key that `read` refuses by a `SpecError`."""
        try:
            read(self.values[key]) if key in self.values else None
        except SpecError as error:
            raise self._broken(key, error) from None

    def _broken(self, key: str, said: object) -> TableError:
        return TableError(f"{self.path}:{self.lines[key]}: broken header line '{key}': {said}")


def _number(text: str) -> float:
    return plain_whole(text) if text.isdecimal() else plain_number(text)
