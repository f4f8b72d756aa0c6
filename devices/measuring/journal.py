"""`Journal`: samples on disk as they arrive, so that a killed run loses nothing.

JSON lines: first the setting, then one line per sample:

    {"setting": ["cpu", "AMD EPYC ...", ...]}
    {"round": 0, "sitting": 0, "workload": "conv-224x224x3-32-k3-s2-relu6", "ms": [0.151, 0.149],
     "digest": "..."}

and, where known, "runs" (if `ms` is their median alone), "memory_bytes", "temperature_c" and
"frequency_mhz". A "sitting" is a session; `digest` is the workload's.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.device import Condition, Timing, Workload
from devices.measuring.record import Sample
from latency.atomic_file import naming, sync_folder
from latency.errors import DeviceError, SpecError
from latency.locked_file import open_locked
from latency.operators.spec import OpSpec
from latency.tables.measurement import BOUNDS
from latency.tables.setting import Setting

_SYNC_SECONDS = 1.0
"""A power cut loses at most this much: samples are too frequent to wait for the disk each."""
_MOST_FILE_BYTES = 1 << 30
"""Limit of a journal; a sample takes some hundred bytes."""
_MOST_BYTES = 1 << 20
"""Limit of a sample's line."""
_LEAST_BYTES = 50
"""Minimum of a sample's line; limits the round of a line by its offset in the file."""


class Journal:
    """Append-only file of samples. `samples`: all of them, those of an earlier run first.

    With `resume`, the samples of an earlier run are read; without it, its file is renamed to
    `<name>.old`. Truncated last lines, broken lines and networks without a digest (of earlier
    versions) are left out; `notes` holds a message about them. Every sample is in the file when
    `append` returns, and on the disk within a second.

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
        self.set_aside: Path | None = None
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
        line: dict[str, Any] = {
            "round": sample.round,
            "sitting": sample.session,
            "workload": sample.workload,
            "ms": list(sample.timing.ms),
        }
        if sample.timing.runs != len(sample.timing.ms):
            line["runs"] = sample.timing.runs
        extra = {"memory_bytes": sample.timing.memory_bytes, **asdict(sample.condition)}
        line |= {name: value for name, value in extra.items() if value is not None}
        self._write({**line, "digest": sample.digest})
        if self._clock() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def remove(self) -> None:
        """Delete the file, once its samples are in a table."""
        self.path.unlink(missing_ok=True)

    def _begin(self, resume: bool) -> None:
        """Read the file or set it aside; a new file starts with the setting."""
        if os.fstat(self._file.fileno()).st_size > _MOST_FILE_BYTES:
            self._put_aside(f"{self.path}: larger than any journal; it")
        lines = _whole_lines(self._file)
        first = next(lines, None)
        if first is None or (not resume and next(lines, None) is None):
            self._file.truncate(0)  # nothing was measured
        elif not resume:
            self._put_aside("an unfinished run, which `resume` continues,")
        elif (setting := _setting(first)) is None:
            self._put_aside(f"{self.path}:1: broken line: its setting is lost, and it")
        elif setting != self._setting:
            raise DeviceError(
                f"{self.path} was measured in another setting (device, runtime or its version); "
                "to start over, delete it, or open it without `resume`"
            )
        else:
            self._read(lines)
        if os.fstat(self._file.fileno()).st_size == 0:
            self._write({"setting": self._setting})
            self._sync()
            sync_folder(self.path.parent)

    def _read(self, lines: Iterator[bytes]) -> None:
        """Read the valid samples of these lines."""
        end, broken, unknown = self._file.tell(), [], 0
        for number, line in enumerate(lines, 2):
            try:
                sample = _sample(line, end)
            except ValueError as error:  # a `ValidationError`, too
                broken.append(f"{self.path}:{number}: broken line: {_message(error)}")
            else:
                if sample is None:
                    unknown += 1
                else:
                    self.samples.append(sample)
            end = self._file.tell()
        self._file.truncate(end)
        if broken:
            self.notes.append(f"{broken[0]}; {len(broken)} of {number - 1} lines are left out")
        if unknown:
            self.notes.append(
                f"{self.path}: {unknown} samples are left out: they are of networks, which an "
                "earlier version of lat-search wrote without their digests"
            )

    def _put_aside(self, what: str) -> None:
        """Start a new file; the old one is renamed."""
        self.set_aside = self.path.with_suffix(".old")
        os.replace(self.path, self.set_aside)
        self._file.close()
        self._file = _opened(self.path)
        self.notes.append(f"{what} is set aside as {self.set_aside}")

    def _write(self, line: Mapping[str, Any]) -> None:
        with naming(self.path):
            self._file.write(json.dumps(line).encode() + b"\n")
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


def _within(name: str) -> Any:
    """A field with the bounds of a table's column."""
    least, most = BOUNDS[name]
    return Field(ge=least, le=most)


class _Line(BaseModel):
    """A sample as the file has it."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    round: int = Field(ge=0)
    session: int = Field(ge=0, lt=1 << 31, alias="sitting")
    workload: str
    ms: tuple[Annotated[float, _within("latency_ms")], ...] = Field(min_length=1)
    runs: Annotated[int, _within("runs"), Field(lt=1 << 31)] | None = None
    memory_bytes: Annotated[int, _within("memory_bytes")] | None = None
    temperature_c: Annotated[float, _within("temperature_c")] | None = None
    frequency_mhz: Annotated[float, _within("frequency_mhz")] | None = None
    digest: str | None = None


class _First(BaseModel):
    setting: list[str]


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(open_locked(path), "a+b")
    except BlockingIOError:
        raise DeviceError(f"another run is measuring into {path}; wait for it") from None


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """The complete lines of a file; of a line that is too long, the beginning."""
    file.seek(0)
    while line := file.readline(_MOST_BYTES):
        end = line
        while not end.endswith(b"\n"):
            if not (end := file.readline(_MOST_BYTES)):
                return
        yield line


def _setting(line: bytes) -> list[str] | None:
    """The setting in a file's first line; None where the line is broken."""
    try:
        return _First.model_validate_json(line).setting
    except ValidationError:
        return None


def _sample(text: bytes, offset: int) -> Sample | None:
    """The sample of a line at an offset of the file; None where it has no digest. Raises
    `ValueError` where the line is broken."""
    line = _Line.model_validate_json(text)
    if line.round > offset // _LEAST_BYTES:
        raise ValueError("round: higher than the number of lines before it allows")
    digest = _digest_of_operator(line.workload) if line.digest is None else line.digest
    if digest is None:
        return None
    timing = Timing(line.ms, line.runs or len(line.ms), line.memory_bytes)
    condition = Condition(line.temperature_c, line.frequency_mhz)
    return Sample(line.round, line.session, line.workload, timing, condition, digest)


def _digest_of_operator(name: str) -> str | None:
    """The digest of the operator with this key, which earlier versions did not write; None for
    the name of a network."""
    try:
        op = OpSpec.parse(name)
    except SpecError:
        return None
    return Workload.of_op(op).digest if op.key == name else None


def _message(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    key = ".".join(map(str, first["loc"]))
    return f"{key}: {first['msg']}" if key else first["msg"]
