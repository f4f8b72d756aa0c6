"""A lock on a phone, so that one process at a time measures on it."""

import fcntl
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from devices.transports.channel import shown
from latency.errors import DeviceError

_MAX_BYTES = 200


def claim(path: Path, what: str) -> Callable[[], object]:
    """Lock a file until the returned function is called or this process ends. The same process may
    lock it again: two cards may name the same phone. Raises `DeviceError` that names the process
    that holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DeviceError(
            f"{path}: {error.strerror}; this file keeps other commands off {what} "
            "(LAT_DATA names another folder)"
        ) from None
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, _MAX_BYTES, 0).decode(errors="replace")
        os.close(handle)
        raise DeviceError(
            f"{what} is busy: {shown(holder) or 'another process'} measures on it; "
            "wait until it has finished"
        ) from None
    name = f"{Path(sys.argv[0]).name or 'python'} (process {os.getpid()})"
    os.pwrite(handle, name.encode(errors="replace")[:_MAX_BYTES].ljust(_MAX_BYTES), 0)
    return partial(os.close, handle)
