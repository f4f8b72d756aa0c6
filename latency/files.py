"""Files that a user names, read: regular ones, and only up to a size."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from latency.errors import LatError, UsageError

MOST_BYTES = 1_000_000
"""Of a file that a person writes."""
NO_FILE = "not a regular file, but a pipe, a device or a socket"


class NotAFileError(OSError):
    """The path is a pipe, a device or a socket."""


def open_file(path: str | Path) -> BufferedReader:
    """A regular file, open to be read; `OSError` for any other: a pipe would be waited for, a
    device has no end."""
    return open(path, "rb", opener=_opened)


def read_file(path: str | Path, most_bytes: int, error: type[LatError] = UsageError) -> bytes:
    """What a file holds. Raises `error`, which names the file, where it is absent or no regular
    file (a folder, a pipe, a device), cannot be read, or holds more than `most_bytes`."""
    try:
        with open_file(path) as file:
            is_larger = os.fstat(file.fileno()).st_size > most_bytes
            content = b"" if is_larger else file.read()
    except OSError as fault:
        raise error(f"{path}: {fault.strerror or fault}") from None
    except ValueError:  # of a name with a null in it
        raise error(f"{path}: no file has such a name") from None
    if is_larger or len(content) > most_bytes:
        raise error(f"{path}: larger than {most_bytes / 1e6:g} MB, which is the most that is read")
    return content


def read_text(path: str | Path, most_bytes: int, error: type[LatError] = UsageError) -> str:
    """The text of a file in UTF-8, without a byte-order mark; errors as in `read_file`."""
    content = read_file(path, most_bytes, error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise error(f"{path}:{line}: not text in UTF-8: {fault.reason}") from None


def _opened(path: str, flags: int) -> int:
    """A file, opened without waiting for the other end of a pipe; refused if it is not regular."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise NotAFileError(errno.EINVAL, NO_FILE, path)
    except OSError:
        os.close(handle)
        raise
    return handle
