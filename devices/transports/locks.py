"""What a process holds for itself: the kernel lets go of it when the process dies, however."""

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

_MOST_BYTES = 200


class Claim:
    """A thing that one process uses at a time, by a lock on a file; taken by `take`.

    All claims of one process are one: two cards may name the same phone.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._handle: int | None = None
        self._close: Callable[[], object] = lambda: None

    def take(self) -> None:
        """Hold it until `release`, or the end of this process. Raises `DeviceError` that names
        the process that holds it."""
        try:
            if self._handle is None:
                self._handle = _opened(self._path)
                self._close = weakref.finalize(self, os.close, self._handle)
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.pwrite(self._handle, _this_process(), 0)
        except OSError as error:
            if self._handle is not None and error.errno in (errno.EAGAIN, errno.EACCES):
                raise DeviceError(
                    f"{self._what} is busy: {_holder(self._handle)} measures on it; wait until "
                    "that has ended"
                ) from None
            raise DeviceError(
                f"{self._path}: {error.strerror}; it keeps other commands from {self._what} "
                "meanwhile (LAT_DATA names another folder)"
            ) from None

    def release(self) -> None:
        """Let go of it; never raises."""
        self._close()
        self._handle = None


def _opened(path: Path) -> int:
    """A file to lock: made where it is absent, never emptied, never what a link leads to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _this_process() -> bytes:
    """Program and number, as others are told them."""
    name = f"{Path(sys.argv[0]).name or 'python'} (process {os.getpid()})"
    return name.encode(errors="replace")[-_MOST_BYTES:].ljust(_MOST_BYTES) + b"\n"


def _holder(handle: int) -> str:
    """What the process that holds a file wrote of itself."""
    said = os.pread(handle, _MOST_BYTES, 0).decode(errors="replace")
    return shown(said) or "another process"


class OwnFolder:
    """A temporary folder of this process, called by `prefix` and something random.

    It goes at `remove`, or when this process ends. What processes that were killed have left
    behind goes when the next one makes its own.
    """

    def __init__(self, prefix: str) -> None:
        _remove_left(prefix)
        self.path, lock = _made(prefix)
        self.remove: Callable[[], object] = weakref.finalize(self, _remove, self.path, lock)


def _made(prefix: str) -> tuple[Path, int | None]:
    """A new folder, and what holds it: None where the file system knows no locks."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            lock = _locked(path)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process has just taken it for one that was left behind
        except OSError:
            return path, None
        if path.exists():
            return path, lock
        os.close(lock)


def _remove_left(prefix: str) -> None:
    """Remove the folders of this user that no process holds any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                _remove(path, _locked(path))


def _locked(folder: Path) -> int:
    """Hold a folder. `BlockingIOError` where another process does."""
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
