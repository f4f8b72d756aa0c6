"""`whole_file`: a file that is written whole or not at all."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from latency.files import NO_FILE, NotAFileError

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """A temporary file beside `path` to write to, renamed to it at the end; deleted if writing
    fails. Line ends are written as given. An `OSError` names `path`.

    A link is kept: the file it points to is replaced. A file keeps its mode, a new one has that of
    the umask. File and folder are synced to the disk.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(6)}.tmp")
    with naming(path, always=True):
        handle = _open_like(target, temporary)
    try:
        with naming(path), os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(handle)
        with naming(path, always=True):
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
def naming(path: Path, always: bool = False) -> Iterator[None]:
    """Let an `OSError` inside name the file if it names none (that of a full disk does not), or
    `always`."""
    try:
        yield
    except OSError as error:
        if always or not error.filename:
            error.filename, error.filename2 = str(path), None
        raise


def _open_like(path: Path, temporary: Path) -> int:
    """Create a file, and its folder, with the mode of `path` if that exists."""
    with suppress(FileExistsError):  # a file: opening raises the error
        path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise NotAFileError(errno.EINVAL, NO_FILE)
    handle = os.open(temporary, _NEW, 0o666)
    if mode is not None:
        os.fchmod(handle, stat.S_IMODE(mode))
    return handle


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to the disk, if the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
