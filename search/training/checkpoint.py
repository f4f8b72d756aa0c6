"""Checkpoints: written whole or not at all, read without unpickling code, and only as written.

The first line of a file is a digest of what follows.

A state is good once a step has been made from it: only that shows that its weights still compute.
So a running training holds a checkpoint back until then, and a training that diverges leaves the
last good one.
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

_REST = 20.0
"""At least so many times as long as the last save took, none is due."""

_MOST_BYTES = 1 << 31
_FIRST = b"lat-search checkpoint, blake2b "


class Checkpoint:
    """One file that holds the state of one phase of a run.

    `identity` says what the state belongs to (space, seed, settings, ...): a file of another
    identity is refused with `UsageError`. A save is due `every_seconds`, and less often where it
    takes more than a twentieth of the time; always for 0. `may_change`: what a run may be resumed
    with another of.
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
        """Whether the last save is long enough ago."""
        rest = max(self.every_seconds, _REST * self._took) if self.every_seconds else 0.0
        return self._clock() - self._last >= rest

    def save(self, state: dict[str, Any]) -> None:
        """Write to a temporary file, then rename."""
        self.hold(state)
        self.release()

    def hold(self, state: dict[str, Any]) -> None:
        """Write to a temporary file, which becomes the checkpoint when it is released."""
        started = self._clock()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # torch does not tell of a full disk what it is
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
        """Make what is held the checkpoint; nothing where nothing is."""
        if self._is_held:
            os.replace(self._temporary, self.path)
            sync_folder(self.path.parent)
            self._is_held = False

    @property
    def _temporary(self) -> Path:
        return self.path.with_suffix(".tmp")

    def load(self) -> dict[str, Any] | None:
        """The state last saved; None where there is none."""
        if not self.path.exists():
            return None
        content = self._read()
        keys = {**self.identity, **content["identity"]}.keys() - set(self.may_change)
        self._require(content["identity"], keys)
        return content["state"]

    def load_of(self, *keys: str) -> dict[str, Any]:
        """The state last saved by another run, whose identity need only agree in `keys`. Raises
        `UsageError` where there is none."""
        if not self.path.exists():
            raise UsageError(f"{self.path}: no such checkpoint; name the folder of a search")
        content = self._read()
        self._require(content["identity"], keys)
        return content["state"]

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Turns whatever the use of its state raises, where that is not of the form that it should
        be, into a `LatError` that names the file."""
        try:
            yield
        except LatError:
            raise
        except Exception as error:
            raise self._broken(error) from None

    def _read(self) -> dict[str, Any]:
        try:
            whole = checked(read_file(self.path, _MOST_BYTES))
            read = torch.load(io.BytesIO(whole), map_location="cpu", weights_only=True)
            identity, state = read["identity"], read["state"]
            if not (isinstance(identity, dict) and isinstance(state, dict)):
                raise ValueError("its identity or its state is of another form")
            if json.loads(json.dumps(identity)).keys() != identity.keys():
                raise ValueError("its identity is not of names and plain values")
        except Exception as error:  # torch raises whatever it stumbles upon
            raise self._broken(error) from None
        return read

    def _broken(self, error: Exception) -> LatError:
        said = (str(error).splitlines() or [""])[0]
        return LatError(
            f"{self.path} is not a checkpoint that can be read: {type(error).__name__}: {said}; "
            "delete it to do without, or give another --out"
        )

    def _require(self, theirs: Mapping[str, Any], keys: Iterable[str]) -> None:
        differing = [key for key in keys if self.identity.get(key) != theirs.get(key)]
        if differing:
            named = ", ".join(
                f"{key} ({theirs.get(key)} there, {self.identity.get(key)} here)"
                for key in sorted(differing)
            )
            raise UsageError(
                f"{self.path} belongs to a run with another {named}; "
                "give the same words with --resume, or another --out"
            )


def first_line(content: bytes | memoryview) -> bytes:
    """The digest of what torch wrote, as a file begins with it."""
    return _FIRST + blake2b(content).hexdigest().encode() + b"\n"


def checked(content: bytes) -> memoryview:
    """What a file holds as torch wrote it; `ValueError` where it is not as it was written."""
    line = content[: content.find(b"\n") + 1]
    rest = memoryview(content)[len(line) :]
    if line != first_line(rest):
        raise ValueError("it was damaged, or cut off, or is of another version")
    return rest
