"""Files that one process has at a time: locks, and what is written line by line."""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latency.errors import LatError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have a file read and written anew inside while no other process does: waits for those that
    do. The lock is a hidden file beside it, which is deleted again."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        handle = open_locked(lock, wait=True)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def open_locked(path: Path, wait: bool = False) -> int:
    """Handle of a file, to read and to append to, that no other process has until it is closed;
    the file and its folder are made where they are absent.

    Raises `BlockingIOError` where another process has it and it is not to `wait`, and `LatError`
    for a symbolic link, which might lead to anybody's file, and for anything but a file.
    """
    with suppress(FileExistsError):  # a file: opening says so
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = _open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # who had it deleted it, meanwhile


def _open(path: Path) -> int:
    if path.is_symlink():
        raise LatError(f"{path} is a symbolic link, where a file of our own is kept: delete it")
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise LatError(f"{path} is not a file, where one of our own is kept: delete it")
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether it is this file that is at the path now."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
