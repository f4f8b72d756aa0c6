"""Checkpoints: written atomically, read without unpickling code, verified by a digest.

The first line of a file is a digest of what follows.

A checkpoint is held back until the next step has succeeded, so a training that diverges leaves
the last state with finite losses.
"""

import io
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from latency.atomic_file import naming, sync_folder
from latency.errors import LatError, UsageError
from latency.files import read_file

_MIN_INTERVAL = 20.0
"""Least time between saves, as a multiple of the duration of the last one."""

_MAX_BYTES = 1 << 31
_FIRST = b"lat-search checkpoint, blake2b "


class Checkpoint:
    """A file with the state of one phase of a run.

    `identity`: what the state belongs to (space, seed, settings, ...); `load` raises `UsageError`
    for a file of another identity, except for the keys in `may_change`. A save is due every
    `every_seconds`, less often if it takes more than a twentieth of the time; always for 0.
    """

    def __init__(
        self,
        path: Path,
        identity: dict[str, Any],
        every_seconds: float = 10.0,
        may_change: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.identity = identity
        self.every_seconds = every_seconds
        self.may_change = may_change
        self._clock, self._last, self._took = clock, clock(), 0.0
        self._is_held = False

    def is_due(self) -> bool:
        """Whether it is time for the next save."""
        rest = max(self.every_seconds, _MIN_INTERVAL * self._took) if self.every_seconds else 0.0
        return self._clock() - self._last >= rest

    def save(self, state: dict[str, Any]) -> None:
        """Write atomically: to a temporary file, then rename it."""
        self.hold(state)
        self.release()

    def hold(self, state: dict[str, Any]) -> None:
        """Write to a temporary file, which `release` makes the checkpoint."""
        started = self._clock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch.save to a full disk does not raise OSError
        torch.save({"identity": self.identity, "state": state}, content)
        with naming(self.path), self._temporary.open("wb") as file:
            file.write(first_line(content.getbuffer()))
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        self._is_held = True
        self._last = self._clock()
        self._took = self._last - started

    def release(self) -> None:
        """Make the state that is held, if any, the checkpoint."""
        if self._is_held:
            os.replace(self._temporary, self.path)
            sync_folder(self.path.parent)
            self._is_held = False

    @property
    def _temporary(self) -> Path:
        return self.path.with_suffix(".tmp")

    def load(self) -> dict[str, Any] | None:
        """The saved state; None if there is no file."""
        if not self.path.exists():
            return None
        content = self._read()
        keys = {**self.identity, **content["identity"]}.keys() - set(self.may_change)
        self._require(content["identity"], keys)
        return content["state"]

    def load_of(self, *keys: str) -> dict[str, Any]:
        """The state saved by another run, whose identity must agree in `keys` only. Raises
        `UsageError` if there is no file."""
        if not self.path.exists():
            raise UsageError(f"{self.path}: no such checkpoint; name the folder of a search")
        content = self._read()
        self._require(content["identity"], keys)
        return content["state"]

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Turn any error about the form of the state into a `LatError` that names the file."""
        try:
            yield
        except LatError:
            raise
        except Exception as error:
            raise self._broken(error) from None

    def _read(self) -> dict[str, Any]:
        try:
            content = checked(read_file(self.path, _MAX_BYTES))
            read = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            identity, state = read["identity"], read["state"]
            if not (isinstance(identity, dict) and isinstance(state, dict)):
                raise ValueError("its identity or its state is not a dictionary")
            if json.loads(json.dumps(identity)).keys() != identity.keys():
                raise ValueError("its identity is not plain JSON")
        except Exception as error:  # torch raises errors of any type
            raise self._broken(error) from None
        return read

    def _broken(self, error: Exception) -> LatError:
        message = (str(error).splitlines() or [""])[0]
        return LatError(
            f"{self.path} is not a valid checkpoint: {type(error).__name__}: {message}; "
            "delete it, or choose another `out`"
        )

    def _require(self, theirs: Mapping[str, Any], keys: Iterable[str]) -> None:
        differing = ", ".join(
            f"{key} ({theirs.get(key)} there, {self.identity.get(key)} here)"
            for key in sorted(keys)
            if self.identity.get(key) != theirs.get(key)
        )
        if differing:
            raise UsageError(
                f"{self.path} belongs to a run with another {differing}; "
                "`resume` with the same options, or choose another `out`"
            )


def first_line(content: bytes | memoryview) -> bytes:
    """The first line of a file: the digest of the rest."""
    return _FIRST + blake2b(content).hexdigest().encode() + b"\n"


def checked(content: bytes) -> memoryview:
    """What a file holds as torch wrote it; `ValueError` where it is not as it was written."""
    line = content[: content.find(b"\n") + 1]
    rest = memoryview(content)[len(line) :]
    if line != first_line(rest):
        raise ValueError("it was damaged, or cut off, or is of another version")
    return rest
