"""YAML of the plainest kind: names to fields to numbers, from people one need not trust.

Events of PyYAML's safe loader are read one by one; no object is ever constructed. Refused: files
over 8 MB, tags, anchors, aliases, lists, nesting, several documents, names that stand twice.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latency.errors import TableError
from latency.files import read_text
from latency.units import plain_number
from latency.whole_file import write_whole

SIZE_LIMIT = 8_000_000
"""Bytes; published tables have ten to twenty thousand."""

Numbers = dict[str, dict[str, float]]


def read_plain_yaml(path: Path) -> Numbers:
    """Names to fields to finite numbers, in the file's order; `TableError` names file and line."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    text = read_text(path, SIZE_LIMIT, TableError)
    try:
        return _collect(_plain_events(text, path), path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise TableError(f"{path}{line}: broken YAML: {problem}") from None


def write_plain_yaml(numbers: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Write names, sorted, to a temporary file beside `path`, then rename: whole or not at all."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    text = yaml.safe_dump({name: dict(fields) for name, fields in numbers.items()}, width=1000)
    write_whole(path, text)


Event = tuple[str, str, int]
"""("begin", "end" or "text", the text, the line)"""


def _plain_events(text: str, path: Path) -> Iterator[Event]:
    """The mappings and scalars of one document; `TableError` for all else that YAML can hold."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = depth = 0
    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1
        where = f"{path}:{line}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise TableError(f"{where}: anchors and aliases are refused in tables")
        if getattr(event, "tag", None):
            raise TableError(f"{where}: tags ({event.tag}) are refused in tables")
        if isinstance(event, yaml.SequenceStartEvent):
            raise TableError(f"{where}: a list; a table maps keys to fields to numbers")
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise TableError(f"{where}: a second document; a table is one")
        if isinstance(event, yaml.MappingStartEvent):
            depth += 1
            if depth > 2:
                raise TableError(f"{where}: nested deeper than keys, fields and numbers")
            yield "begin", "", line
        elif isinstance(event, yaml.MappingEndEvent):
            depth -= 1
            yield "end", "", line
        elif isinstance(event, yaml.ScalarEvent):
            yield "text", event.value, line


def _collect(events: Iterator[Event], path: Path) -> Numbers:
    found: Numbers = {}
    if next(events, ("end", "", 0))[0] != "begin":
        raise TableError(f"{path}: no table: it maps no keys to fields")
    for name, line in _keys(events, path):
        if name in found:
            raise TableError(f"{path}:{line}: '{name}' stands in the table twice")
        found[name] = {}
        if next(events)[0] != "begin":
            raise TableError(f"{path}:{line}: '{name}' has no fields such as count and mean")
        for field, line in _keys(events, path):
            kind, text, _ = next(events)
            if field in found[name]:
                raise TableError(f"{path}:{line}: '{name}' has two fields {field}")
            found[name][field] = _number(text if kind == "text" else "", f"{path}:{line}: {field}")
    for _ in events:
        pass  # what may follow is refused as it is read
    return found


def _keys(events: Iterator[Event], path: Path) -> Iterator[tuple[str, int]]:
    """The keys of a mapping, up to its end; the caller takes each one's value in between."""
    for kind, text, line in events:
        if kind == "end":
            return
        if kind != "text":
            raise TableError(f"{path}:{line}: a key that is no plain text")
        yield text, line


def _number(text: str, where: str) -> float:
    try:
        number = plain_number(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TableError(f"{where} is '{text[:40]}'; expected a finite number")
    return number
