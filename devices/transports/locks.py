"""Locks that a process holds; the kernel releases them when it dies."""

import errno
import fcntl
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from devices.transports.channel import shown
from latency.errors import DeviceError

_MAX_BYTES = 200


class Claim:
    """A lock on a file, for what one process may use at a time.

    All claims of one process are one: two cards may name the same phone.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._handle: int | None = None
        self._close: Callable[[], object] = lambda: None

    def take(self) -> None:
        """Hold the lock until `release` or the end of this process. Raises `DeviceError` that names
        the process that holds it."""
        try:
            if self._handle is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
                self._handle = os.open(self._path, flags, 0o600)
                self._close = weakref.finalize(self, os.close, self._handle)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name = f"{Path(sys.argv[0]).name or 'python'} (process {os.getpid()})"
            line = name.encode(errors="replace")[-_MAX_BYTES:].ljust(_MAX_BYTES) + b"\n"
            os.pwrite(self._handle, line, 0)
        except OSError as error:
            if self._handle is not None and error.errno in (errno.EAGAIN, errno.EACCES):
                holder = os.pread(self._handle, _MAX_BYTES, 0).decode(errors="replace")
                raise DeviceError(
                    f"{self._what} is busy: {shown(holder) or 'another process'} measures on it; "
                    "wait until it has finished"
                ) from None
            raise DeviceError(
                f"{self._path}: {error.strerror}; this file keeps other commands off {self._what} "
                "(LAT_DATA names another folder)"
            ) from None

    def release(self) -> None:
        """Release the lock; never raises."""
        self._close()
        self._handle = None


class OwnFolder:
    """A temporary folder of this process, named `prefix` and something random.

    It is deleted by `remove`, or when this process ends. Folders of killed processes are deleted
    when the next one is made.
    """

    def __init__(self, prefix: str) -> None:
        for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            with suppress(OSError):  # another process holds it
                if path.lstat().st_uid == os.getuid():
                    _remove(path, _locked(path))
        self.path, lock = _made(prefix)
        self.remove: Callable[[], object] = weakref.finalize(self, _remove, self.path, lock)


def _made(prefix: str) -> tuple[Path, int | None]:
    """A new folder and the handle that locks it, None if the file system has no locks."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            lock = _locked(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process took it for an abandoned one
        except OSError:
            return path, None
        if path.exists():
            return path, lock
        os.close(lock)


def _locked(folder: Path) -> int:
    """Lock a folder; returns the handle. Raises `BlockingIOError` if another process holds it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)
