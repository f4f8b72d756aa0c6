"""YAML of tables: names to fields to numbers, of other people's files.

Scalars are read as text and no object is ever constructed. Refused: files over 8 MB, aliases, tags,
lists, several documents, names that stand twice.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latency.atomic_file import write_whole
from latency.errors import TableError
from latency.files import read_text
from latency.units import plain_number

SIZE_LIMIT = 8_000_000
"""Bytes; published tables have ten to twenty thousand."""

Numbers = dict[str, dict[str, float]]


def read_plain_yaml(path: Path) -> Numbers:
    """Names to fields to finite numbers, in the file's order; `TableError` names file and line."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    text = read_text(path, SIZE_LIMIT, TableError)
    try:
        table = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except RecursionError:
        raise TableError(f"{path}: nested deeper than names, fields and numbers") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise TableError(f"{path}{line}: broken YAML: {problem}") from None
    seen: set[int] = set()
    return {
        name: {field: _number(value, path, field) for field, value in _items(fields, path, seen)}
        for name, fields in _items(table, path, seen)
    }


def write_plain_yaml(numbers: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write names, sorted, to a temporary file beside `path`, then rename: whole or not at all."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    text = yaml.safe_dump({name: dict(fields) for name, fields in numbers.items()}, width=1000)
    write_whole(path, text)


def _items(mapping: Any, path: Path, seen: set[int]) -> list[tuple[str, Any]]:
    """Keys and value nodes of a mapping. `seen`: the nodes that were read before, to which an alias
    would lead again."""
    if mapping is None or mapping.tag != "tag:yaml.org,2002:map":
        line = f":{mapping.start_mark.line + 1}" if mapping is not None else ""
        raise TableError(f"{path}{line}: not a mapping of names to fields to numbers")
    found: dict[str, Any] = {}
    for key, value in mapping.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key.value, str):
            raise TableError(f"{where}: a key that is not plain text")
        if key.value in found:
            raise TableError(f"{where}: '{key.value}' appears twice")
        if id(value) in seen:
            raise TableError(f"{where}: aliases are refused in tables")
        seen.add(id(value))
        found[key.value] = value
    return list(found.items())


def _number(node: Any, path: Path, field: str) -> float:
    where = f"{path}:{node.start_mark.line + 1}: {field}"
    if not isinstance(node.value, str):
        raise TableError(f"{where} holds more than a number")
    try:
        number = plain_number(node.value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TableError(f"{where} is '{node.value[:40]}'; expected a finite number")
    return number
