"""A user's own space, from a file.

A TOML file describes stages (`search.spaces.staged`). A Python file defines
`build(resolution, width, classes, batch) -> SearchSpace` and is executed, so the path must come
from the user: never pass `load` a name from a result, a table or a checkpoint.
"""

import hashlib
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
from latency.toml_file import read_toml
from search.space import SearchSpace
from search.spaces.staged import StagedSpace

SUFFIXES = (".toml", ".py")
_BUILD = "build(resolution, width, classes, batch)"


def load(path: Path, **options: Any) -> SearchSpace:
    """The space of a file; `options`: `resolution`, `width`, `classes`, `batch` override the
    file's.

    Its name is the file's and a digest of the operators, so that an edited space has another name
    in tables. The digest leaves out the classifier, whose classes are the data's. Raises
    `UsageError`, one line, that names the file and the key or the line.
    """
    if path.suffix == ".py":
        space = _programmed(path, options)
    else:
        described = read_toml(path, StagedSpace)
        try:
            space = described.build(path.stem, **options)
        except SpecError as error:
            raise UsageError(f"{path}: {error}") from None
    parts = [op.key for op in (*space.stem, *space.head[:-1])]
    parts += [" ".join(op.key if op else "skip" for op in block) for block in space.blocks]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:6]
    return replace(space, name=f"{slug(path.stem) or 'own'}-{digest}")


def _programmed(path: Path, options: Mapping[str, Any]) -> SearchSpace:
    """Execute the file as a new module, and call its `build`."""
    module = ModuleType(f"own_space_{hashlib.sha256(str(path).encode()).hexdigest()[:6]}")
    module.__file__ = str(path)
    text = read_text(path, MOST_BYTES)
    sys.modules[module.__name__] = module  # dataclasses of the file look their names up here
    with _one_line(path):
        exec(compile(text, str(path), "exec"), vars(module))
    build = getattr(module, "build", None)
    if not callable(build):
        raise UsageError(f"{path} has no function {_BUILD}")
    with _one_line(path):
        space = build(**options)
    if not isinstance(space, SearchSpace):
        raise UsageError(f"{path}: build returned a {type(space).__name__}, not a SearchSpace")
    _check(path, space, options)
    return space


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn any error of the user's code into one line that names the file and its line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            lines.append(error.lineno)
        at = f":{lines[-1]}" if lines else ""
        message = " ".join(str(getattr(error, "msg", error)).split())
        raise UsageError(f"{path}{at}: {type(error).__name__}: {message}") from None


def _check(path: Path, space: SearchSpace, options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a space that does not match the options, or whose operators are not a
    chain from images to classes."""
    size, classes = (options.get(n, getattr(space, n)) for n in ("resolution", "classes"))
    batch = options.get("batch", 1)
    why = ""
    try:
        network = space.network(space.largest)
        shapes = network.input_shape, network.ops[-1].out_shape
        if (
            shapes == ((size, size, 3), (1, 1, classes))
            and (space.resolution, space.classes) == (size, classes)
            and all(op.batch == batch and not op.traits.stands_alone for op in space.operators)
        ):
            return
    except (SpecError, IndexError) as error:
        why = f": {error}"
    raise UsageError(
        f"{path}: the operators of a space must form a chain from {size}x{size}x3 images to "
        f"{classes} classes, at batch {batch}{why}"
    )
