"""A user's own space, from the file that --space names.

A TOML file describes stages (`search.spaces.staged`). A Python file has a function
`build(resolution, width, classes, batch) -> SearchSpace`; it is the user's own code and is
executed, so it is loaded only where a user named it: never hand `load` a name that was read from
a result, a table or a checkpoint.
"""

import hashlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from latency.errors import SpecError, UsageError
from latency.files import MOST_BYTES, read_text
from latency.names import slug
from search.space import SearchSpace
from search.spaces import staged

SUFFIXES = (".toml", ".py")
_BUILD = "build(resolution, width, classes, batch)"


def load(path: Path, **options: Any) -> SearchSpace:
    """The space of a file; `options`: `resolution`, `width`, `classes`, `batch`, where they are
    not to be the file's own.

    It is named by its file and by what is in it (`_fingerprint`), so that what a table says of its
    error on a space is never said of one that was edited since. Raises `UsageError`, one line,
    that names the file and the key or the line.
    """
    read = _programmed if path.suffix == ".py" else _described
    space = read(path, options)
    return replace(space, name=f"{slug(path.stem) or 'own'}-{_fingerprint(space)}")


def _fingerprint(space: SearchSpace) -> str:
    """Six hexadecimal digits of the keys of all operators in their places, but for the classifier,
    whose classes are the data's. Comments and the order of keys in a file do not count."""
    parts = [op.key for op in (*space.stem, *space.head[:-1])]
    parts += [" ".join(op.key if op else "skip" for op in block) for block in space.blocks]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]


def _described(path: Path, options: Mapping[str, Any]) -> SearchSpace:
    described = staged.read(path)
    try:
        return described.build(path.stem, **options)
    except SpecError as error:
        raise UsageError(f"{path}: {error}") from None


def _programmed(path: Path, options: Mapping[str, Any]) -> SearchSpace:
    build = getattr(_executed(path), "build", None)
    if not callable(build):
        raise UsageError(f"{path} has no function {_BUILD}")
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        raise UsageError(f"{path}: {_BUILD} is wanted, or defaults: {error}") from None
    with _one_line(path):
        space = build(**options)
    if not isinstance(space, SearchSpace):
        raise UsageError(f"{path}: build returned a {type(space).__name__}, not a SearchSpace")
    if said := _contradiction(space, options):
        raise UsageError(f"{path}: build returned a space {said}")
    return space


def _executed(path: Path) -> ModuleType:
    """The file as a module of its own, executed afresh."""
    module = ModuleType(f"own_space_{hashlib.sha256(str(path).encode()).hexdigest()[:6]}")
    module.__file__ = str(path)
    text = read_text(path, MOST_BYTES)
    sys.modules[module.__name__] = module  # where dataclasses of the file look their names up
    with _one_line(path):
        exec(compile(text, str(path), "exec"), vars(module))
    return module


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns whatever the user's code raises into one line that names the file and its line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines.append(error.lineno)
        at = f":{lines[-1]}" if lines else ""
        said = " ".join(str(getattr(error, "msg", error)).split())
        raise UsageError(f"{path}{at}: {type(error).__name__}: {said}") from None


def _contradiction(space: SearchSpace, options: Mapping[str, Any]) -> str | None:
    """What of a space cannot be: it must be a chain of operators from images to classes, as it was
    asked for."""
    for name in {"resolution", "classes"} & {*options}:
        if getattr(space, name) != options[name]:
            return f"of {name} {getattr(space, name)}, not {options[name]}"
    for op in space.operators:
        if op.traits.stands_alone:
            return f"with {op.key}, which stands in no chain of operators"
        if op.batch != options.get("batch", op.batch):
            return f"with {op.key} of batch {op.batch}, not {options['batch']}"
    try:
        network = space.network(space.largest)
    except (SpecError, IndexError) as error:
        return f"whose operators form no chain: {error}"
    size = space.resolution
    if network.input_shape != (size, size, 3):
        return f"that begins with {network.ops[0].key}, not on {size}x{size}x3 images"
    if network.ops[-1].out_shape != (1, 1, space.classes):
        return f"that ends with {network.ops[-1].key}, not in {space.classes} classes"
    return None
