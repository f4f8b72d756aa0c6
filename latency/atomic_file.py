"""`whole_file`: a file that is written whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from latency.files import NO_FILE, NotAFileError

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A temporary file beside `path` to write to, renamed to it at the end; deleted where writing
    fails. Line ends are written as they come. An `OSError` names `path`.

    A link stays one: the file that it leads to is replaced. A file keeps its mode, a new one has
    that of the umask. File and folder are on the disk (fsync) when this ends.
    """
    with _naming_only(path):
        target = Path(os.path.realpath(path))
        handle, temporary = _temporary_beside(target)
    try:
        with naming(path), os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(handle)
        with _naming_only(path):
            os.replace(temporary, target)
            sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
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


def _temporary_beside(path: Path) -> tuple[int, Path]:
    """A temporary file in the folder of `path`, which is made, of the mode that `path` has or is to
    get: its open handle and its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # it is a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    mode = _mode(path)
    temporary = path.with_name(f".{path.stem[:100]}-{secrets.token_hex(6)}.tmp")
    handle = os.open(temporary, _NEW, 0o666 if mode is None else 0o600)
    if mode is not None:
        os.fchmod(handle, mode)
    return handle, temporary


def _mode(path: Path) -> int | None:
    """The permissions of a file; None where there is none yet."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError(errno.EINVAL, NO_FILE)
    return stat.S_IMODE(mode)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a power cut, where it can be read and synced."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
