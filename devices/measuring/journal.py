"""`Journal`: samples on disk as they arrive, so that a killed run loses nothing.

JSON lines: first the setting, then one `Sample` per line, without what is unknown:

    {"setting": ["cpu", "AMD EPYC ...", ...]}
    {"round": 0, "session": 0, "workload": "conv-224x224x3-32-k3-s2-relu6",
     "timing": {"ms": [0.151, 0.149], "runs": 2}, "condition": {}, "digest": "..."}
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Self

from pydantic import TypeAdapter, ValidationError

from devices.measuring.record import Sample
from latency.atomic_file import naming, sync_folder
from latency.errors import DeviceError
from latency.locked_file import open_locked
from latency.tables.setting import Setting

_SYNC_SECONDS = 1.0
"""A power cut loses at most this much: samples are too frequent to wait for the disk each."""
_MOST_BYTES = 1 << 30
_SAMPLE = TypeAdapter(Sample)


class Journal:
    """Append-only file of samples. `samples`: all of them, those of an earlier run first.

    With `resume`, the samples of an earlier run are read; without it, its file is renamed to
    `<name>.old`. Truncated last lines and broken lines are left out; `notes` holds a message about
    them. Every sample is in the file when `append` returns, and on the disk within a second.

    Raises `DeviceError` where another process writes to the file, or where it is of another
    setting; `LatError` where it is a symbolic link.
    """

    def __init__(
        self,
        path: Path,
        setting: Setting,
        resume: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.samples: list[Sample] = []
        self.notes: list[str] = []
        self._setting = [str(value) for value in setting.identity]
        self._clock, self._synced = clock, clock()
        self._file = _opened(path)
        try:
            self._begin(resume)
        except BaseException:
            self._file.close()
            raise

    def append(self, sample: Sample) -> None:
        """Append a sample to the file."""
        self.samples.append(sample)
        self._write(_SAMPLE.dump_json(sample, exclude_none=True))
        if self._clock() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def remove(self) -> None:
        """Delete the file, once its samples are in a table."""
        self.path.unlink(missing_ok=True)

    def _begin(self, resume: bool) -> None:
        """Read the file or set it aside; a new file starts with the setting."""
        if os.fstat(self._file.fileno()).st_size > _MOST_BYTES:
            raise DeviceError(f"{self.path}: larger than any journal; delete it")
        self._file.seek(0)
        lines = self._file.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        if not resume and len(lines) > 1:
            aside = self.path.with_suffix(".old")
            os.replace(self.path, aside)
            self._file.close()
            self._file = _opened(self.path)
            self.notes.append(f"an unfinished run, which `resume` continues, is kept as {aside}")
        elif not resume:
            self._file.truncate(0)  # nothing was measured
        if resume and lines:
            self._read(lines)
        else:
            self._write(json.dumps({"setting": self._setting}).encode())
            self._sync()
            sync_folder(self.path.parent)

    def _read(self, lines: list[bytes]) -> None:
        if lines[0] != json.dumps({"setting": self._setting}).encode() + b"\n":
            raise DeviceError(
                f"{self.path} was measured in another setting (device, runtime or its version); "
                "to start over, delete it, or open it without `resume`"
            )
        broken = []
        for number, line in enumerate(lines[1:], 2):
            try:
                self.samples.append(_SAMPLE.validate_json(line, strict=True))
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(map(str, first["loc"]))
                broken.append(f"{self.path}:{number}: broken line: {key}: {first['msg']}")
        if broken:
            self.notes.append(f"{broken[0]}; {len(broken)} of {len(lines) - 1} lines are left out")

    def _write(self, line: bytes) -> None:
        with naming(self.path):
            self._file.write(line + b"\n")
            self._file.flush()

    def _sync(self) -> None:
        with naming(self.path):
            os.fsync(self._file.fileno())
        self._synced = self._clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._file:
            self._sync()


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(open_locked(path), "a+b")
    except BlockingIOError:
        raise DeviceError(f"another run is measuring into {path}; wait for it") from None
