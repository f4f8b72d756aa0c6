"""The `# key: value` lines of a table's file, read one by one."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latency.errors import SpecError, TableError
from latency.graphs.fusion import FUSION, SUITE, Fusion
from latency.tables.content import TableContent
from latency.units import plain_number, plain_whole

FORMAT_VERSION = "1"
_BY_SPACE = {"measured": "measured", "transferred": "transfers", "traced": "traced"}
"""Keys begin with these words, followed by a space's tag; the field of a table of each."""
_FAILED = "failed"
"""Keys begin with it, followed by an operator's key or a network's name."""


def history_lines(table: TableContent) -> dict[str, str]:
    """The header's values by key, beside those of setting, calibrations and validations: free
    circumstances, then the history of each space, then failures."""
    lines = dict(table.circumstances)
    fusion = {} if table.fusion is None else {FUSION: str(table.fusion)}
    fields = {word: getattr(table, name) for word, name in _BY_SPACE.items()}
    for space in dict.fromkeys(space for values in fields.values() for space in values):
        if space == SUITE:
            lines |= fusion
        lines |= {
            f"{word} {space}": values[space] for word, values in fields.items() if space in values
        }
    return lines | fusion | {f"{_FAILED} {name}": why for name, why in table.failed.items()}


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
    """Values by their keys, and the keys' `lines`. Popping removes from `values`; an error
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

    def pop_per_space(self, word: str, kind: Callable[..., Any]) -> dict[str, Any]:
        """By space, the values of the lines `# WORD SPACE: name=number ...`."""
        found = {}
        for key in [key for key in self.values if key.startswith(f"{word} ")]:
            try:
                parts = [part.split("=") for part in self.values.pop(key).split()]
                numbers = {name: _number(text) for name, text in parts}
                if len(numbers) < len(parts):
                    raise ValueError("it has a name twice")
                found[key.removeprefix(f"{word} ")] = kind(**numbers)
            except (ValueError, TypeError, SpecError) as error:
                raise self._broken(key, error) from None
        return found

    def pop_history(self, validations: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a `TableContent` that `history_lines` wrote. Raises `TableError` for a
        transferred space without a validation, and for rules of fusion that are not valid."""
        found: dict[str, Any] = {
            name: self._pop_by_prefix(word) for word, name in _BY_SPACE.items()
        }
        for space in found["transfers"]:
            if space not in validations:
                missing = f"no '# validation {space}:' says by how much it is off"
                raise self._broken(f"transferred {space}", missing)
        try:
            rules = self.values.pop(FUSION, None)
            found["fusion"] = None if rules is None else Fusion.parse(rules)
        except SpecError as error:
            raise self._broken(FUSION, error) from None
        return {**found, "failed": self._pop_by_prefix(_FAILED)}

    def _pop_by_prefix(self, word: str) -> dict[str, str]:
        """The values of all keys that begin with a word and a space, by the rest of the key."""
        keys = [key for key in self.values if key.startswith(f"{word} ")]
        return {key.removeprefix(f"{word} "): self.values.pop(key) for key in keys}

    def _broken(self, key: str, why: object) -> TableError:
        return TableError(f"{self.path}:{self.lines[key]}: broken header line '{key}': {why}")


def _number(text: str) -> float:
    return plain_whole(text) if text.isdecimal() else plain_number(text)
