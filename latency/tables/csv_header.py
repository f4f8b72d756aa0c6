"""The `# key: value` lines of a table's file."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from latency.errors import SpecError, TableError
from latency.graphs.fusion import FUSION, SUITE, Fusion
from latency.tables.calibration import Calibration, Validation
from latency.tables.content import TableContent
from latency.tables.setting import Setting
from latency.units import plain_number, plain_whole

_FORMAT = "1"
_TEXTS = {"measured": "measured", "transferred": "transfers", "traced": "traced"}
"""Lines `# WORD SPACE: text`: the word, and the field of `TableContent`."""
_NUMBERS = {"calibration": ("calibrations", Calibration), "validation": ("validations", Validation)}
"""Lines `# WORD SPACE: name=number ...`: the word, the field, and the class of its values."""
_FAILED = "failed"
"""Lines `# failed NAME: reason`, of an operator's key or a network's name."""


def header_lines(table: TableContent) -> dict[str, object]:
    """The values of the header by key."""
    return {
        "format": _FORMAT,
        **asdict(table.setting),
        **history_lines(table),
        **{
            f"{word} {space}": " ".join(
                f"{key}={number if isinstance(number, int) else format(number, '.6g')}"
                for key, number in asdict(value).items()
            )
            for word, (name, _) in _NUMBERS.items()
            for space, value in sorted(getattr(table, name).items())
        },
        "rows": len(table.rows),
    }


def history_lines(table: TableContent) -> dict[str, str]:
    """The values of the header by key, without setting, calibrations and validations: free
    circumstances, then the history of each space, then failures."""
    lines = dict(table.circumstances)
    fusion = {} if table.fusion is None else {FUSION: str(table.fusion)}
    texts = {word: getattr(table, name) for word, name in _TEXTS.items()}
    for space in dict.fromkeys(space for values in texts.values() for space in values):
        if space == SUITE:
            lines |= fusion
        for word, values in texts.items():
            if space in values:
                lines[f"{word} {space}"] = values[space]
    return lines | fusion | {f"{_FAILED} {name}": why for name, why in table.failed.items()}


def comment_lines(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The lines that begin with "#", by number. Spreadsheets quote those with a comma, and append
    commas until all lines are equally wide."""
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            yield number, line.rstrip(", ")
        elif line.startswith('"#'):
            yield number, ",".join(next(csv.reader([line]))).rstrip(", ")


def split_line(line: str) -> tuple[str, str]:
    """Key and value of a line `# key: value`."""
    key, _, value = line[1:].partition(":")
    return key.strip(), value.strip()


def read_content(path: Path, comments: Mapping[int, str]) -> tuple[dict[str, Any], str]:
    """The fields of a `TableContent` but for its rows, and the number of rows that the header
    states, or "". Raises `TableError`, with file and line, for lines that are not valid."""
    version = dict(map(split_line, comments.values())).get("format", "unknown")
    if version != _FORMAT:
        raise TableError(f"{path}:1: format version {version}; expected '# format: {_FORMAT}'")
    names = (*_TEXTS.values(), *(name for name, _ in _NUMBERS.values()), "circumstances", _FAILED)
    content: dict[str, Any] = {name: {} for name in names}
    lines: dict[str, int] = {}
    setting: dict[str, Any] = {}
    for number, line in comments.items():
        key, value = split_line(line)
        try:
            if ":" not in line:
                raise ValueError("expected '# key: value'")
            if key in lines:
                raise ValueError(f"it is also in line {lines[key]}")
            lines[key] = number
            if key in _SETTING:
                setting[key] = _SETTING[key](value)
            else:
                _read_line(content, key, value)
        except (ValueError, TypeError, SpecError) as error:
            raise _broken(path, number, key, error) from None
    for space in content["transfers"].keys() - content["validations"].keys():
        key = f"transferred {space}"
        raise _broken(path, lines[key], key, f"no '# validation {space}:' states its error")
    missing = [name for name in ("device", "hardware", "runtime") if not setting.get(name)]
    if missing:
        raise TableError(f"{path}:1: the header has no {', '.join(missing)}")
    content["circumstances"].pop("format")
    rows = content["circumstances"].pop("rows", "")
    return {"setting": Setting(**setting), **content}, rows


def _read_line(content: dict[str, Any], key: str, value: str) -> None:
    word, _, name = key.partition(" ")
    if key == FUSION:
        content["fusion"] = Fusion.parse(value)
    elif name and word in _NUMBERS:
        field, kind = _NUMBERS[word]
        pairs = [part.split("=") for part in value.split()]
        numbers = {name: _number(text) for name, text in pairs}
        if len(numbers) < len(pairs):
            raise ValueError("it has a name twice")
        content[field][name] = kind(**numbers)
    elif name and (word == _FAILED or word in _TEXTS):
        content[_TEXTS.get(word, _FAILED)][name] = value
    else:
        content["circumstances"][key] = value


def _broken(path: Path, number: int, key: str, why: object) -> TableError:
    return TableError(f"{path}:{number}: broken header line '{key[:100]}': {why}")


def _number(text: str) -> float:
    return plain_whole(text) if text.isdecimal() else plain_number(text)


def _one_or_more(text: str) -> int:
    if plain_whole(text) < 1:
        raise ValueError(f"{text} is less than 1")
    return int(text)


_SETTING = {f.name: _one_or_more if f.type is int else str for f in fields(Setting)}
