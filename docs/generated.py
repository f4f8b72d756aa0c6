"""What the documentation's pages take from the code and from the benchmarks when they are built.

`<!-- help: lat-search -->` becomes what `lat-search --help` prints, and `<!-- figures: ssh -->`
the figures of that benchmark in `benchmarks/results.json`, with date and hardware. `<!-- keys:
devices.card:Ssh -->` becomes a table of what that class has, with defaults.
"""

import dataclasses
import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
_NO_KEYS = {"name", "argument", "ssh", "replay"}
"""Fields of a card that are not keys of its file, and its other sections."""
_MARK = re.compile(r"^<!-- (help|figures|keys): (.+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **page: Any) -> str:
    """MkDocs calls this with the text of every page."""
    makers = {"help": help_of, "figures": figures_of, "keys": keys_of}
    return _MARK.sub(lambda mark: makers[mark[1]](mark[2]), markdown)


def help_of(words: str) -> str:
    """What a command prints of itself, 80 columns wide."""
    script, *more = words.split()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts[script].split(":")
    written = io.StringIO()
    with _as_typed([script, *more, "--help"]), redirect_stdout(written):
        try:
            getattr(import_module(module), function)()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{words} --help ends with {end.code}") from None
    lines = [line.rstrip() for line in written.getvalue().strip().splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```"


@contextmanager
def _as_typed(words: list[str]) -> Iterator[None]:
    """The words of a command line, on a terminal of 80 columns without colours."""
    typed, environment = sys.argv, dict(os.environ)
    sys.argv = words
    os.environ |= {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    try:
        yield
    finally:
        sys.argv = typed
        os.environ.clear()
        os.environ |= environment


def figures_of(name: str) -> str:
    """The figures of a benchmark as a table, under the date and the hardware they are of."""
    benchmark = json.loads((ROOT / "benchmarks" / "results.json").read_text())[name]
    day, hardware = benchmark["date"].partition("T")[0], benchmark["hardware"]
    lines = ["| figure | measured | bound | holds |", "| --- | --- | --- | --- |"]
    for figure in benchmark["figures"]:
        label = figure["name"].strip()
        label = f"&emsp;{label}" if figure["name"].startswith(" ") else label
        bounds = [f"at most {figure['most']:g}"] if figure["most"] is not None else []
        bounds += [f"at least {figure['least']:g}"] if figure["least"] is not None else []
        holds = ("yes" if figure["holds"] else "**no**") if bounds else ""
        measured = f"{figure['value']:.3g} {figure['unit']}".strip()
        lines.append(f"| {label} | {measured} | {', '.join(bounds)} | {holds} |")
    return f"Measured on {day}, {hardware}, by `benchmarks/run.py {name}`:\n\n" + "\n".join(lines)


def keys_of(path: str) -> str:
    """The keys of a card, of its section or of settings as a table: default and description."""
    module, name = path.split(":")
    described = getattr(import_module(module), name)
    if dataclasses.is_dataclass(described):
        rows = [(field.name, field.default, "") for field in dataclasses.fields(described)]
    else:
        rows = [
            (key, "(needed)" if field.is_required() else field.default, field.description or "")
            for key, field in described.model_fields.items()
            if not isinstance(field.default, BaseModel) and key not in _NO_KEYS
        ]
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]
    for key, default, meaning in rows:
        shown = "" if default is None or default == "" else f"`{json.dumps(default, default=str)}`"
        lines.append(f"| `{key}` | {shown} | {meaning} |")
    return "\n".join(lines)
