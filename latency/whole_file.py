"""`whole_file`: a file that is written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A temporary file beside `path` to write to, renamed to it at the end; deleted where writing
    fails. Line ends are written as they come. An `OSError` names `path`."""
    with _naming_only(path):
        handle, temporary = _temporary_beside(path)
    try:
        with naming(path), os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _naming_only(path):
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as file:
        if isinstance(content, bytes):
            file.buffer.write(content)
        else:
            file.write(content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an `OSError` inside name the file, which that of a full disk does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextmanager
def _naming_only(path: Path) -> Iterator[None]:
    """Have an `OSError` inside name the file in place of whatever it is about."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _temporary_beside(path: Path) -> tuple[int, str]:
    """A temporary file in the folder of `path`, which is made: its open handle and its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # it is a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    return tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
