"""Locks on files: one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latency.atomic_file import naming
from latency.errors import LatError

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a file while it is read and rewritten; waits for other processes. The lock is a hidden
    file beside it, which is deleted at the end."""
    lock = path.with_name(f".{path.name}.lock")
    with naming(path, always=True):
        handle = open_locked(lock, wait=True)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def open_locked(path: Path, wait: bool = False) -> int:
    """Open a file to read and append, and lock it until it is closed. File and folder are created
    if needed. Returns the handle.

    Raises `BlockingIOError` if another process has locked it and `wait` is false, and `LatError`
    for anything but a regular file.
    """
    with suppress(FileExistsError):  # a file: opening raises the error
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise LatError(f"{path} is a symbolic link or not a regular file: delete it")
    while True:
        handle = os.open(path, _FLAGS, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # another process has deleted the file
