"""Read files that a user names: regular ones, up to a size."""

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
    """Open a regular file to read; `OSError` for any other: a pipe blocks, a device has no end."""
    return open(path, "rb", opener=_open_regular)


def read_file(path: str | Path, most_bytes: int, error: type[LatError] = UsageError) -> bytes:
    """Content of a file. Raises `error`, which names the file, if it is not a regular file, cannot
    be read, or is larger than `most_bytes`."""
    try:
        with open_file(path) as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as fault:  # `ValueError`: a null in the name
        raise error(f"{path}: {getattr(fault, 'strerror', None) or fault}") from None
    if len(content) > most_bytes:
        raise error(f"{path}: larger than {most_bytes / 1e6:g} MB")
    return content


def read_text(path: str | Path, most_bytes: int, error: type[LatError] = UsageError) -> str:
    """Text of a file in UTF-8, without a byte-order mark; errors as in `read_file`."""
    content = read_file(path, most_bytes, error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise error(f"{path}:{line}: not text in UTF-8: {fault.reason}") from None


def _open_regular(path: str, flags: int) -> int:
    """Open a file without waiting for the other end of a pipe; `open` refuses folders itself."""
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    mode = os.fstat(handle).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(handle)
        raise NotAFileError(errno.EINVAL, NO_FILE, path)
    return handle
