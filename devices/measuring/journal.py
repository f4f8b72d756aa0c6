"""`Journal`: measurements on disk as they arrive, so that a killed run loses nothing.

JSON lines. First what the numbers hold for, then one line a burst:

    {"setting": ["cpu", "AMD EPYC ...", ...]}
    {"round": 0, "sitting": 0, "workload": "conv-224x224x3-32-k3-s2-relu6", "ms": [0.151, 0.149],
     "digest": "..."}

and where they are known, "runs" (where `ms` is their median alone), "memory_bytes",
"temperature_c" and "frequency_mhz". `digest` is the workload's: what was run, whatever its name.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, BinaryIO, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devices.device import Condition, Timing, Workload
from devices.measuring.record import Burst
from latency.atomic_file import naming, sync_folder
from latency.errors import DeviceError, SpecError
from latency.locked_file import open_locked
from latency.operators.spec import OpSpec
from latency.tables.measurement import BOUNDS
from latency.tables.setting import Setting

_SYNC_SECONDS = 1.0
"""What a power cut may lose: bursts come too fast for each to wait for the disk."""
_MOST_FILE_BYTES = 1 << 30
"""No journal is larger: a burst takes some hundred bytes."""
_MOST_BYTES = 1 << 20
"""No burst's line is longer."""
_LEAST_BYTES = 50
"""No burst's line is shorter: it bounds the number of a round by its place in the file."""


class Journal:
    """Append-only file of bursts. `bursts`: all of them, those of an earlier run first.

    Opening with `resume` reads what an earlier run wrote; without it, an earlier run's file is
    set aside as `<name>.old`. A last line cut short by a kill is dropped, and so are broken lines,
    and networks that an earlier version wrote down by their names alone: `notes` says so, in words.
    Every burst is in the file once `append` returns, and within a second on the disk.

    Raises `DeviceError` where another process is writing to it, or where the file was written in
    another setting; `LatError` where it is a symbolic link.
    """

    def __init__(
        self,
        path: Path,
        setting: Setting,
        resume: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.bursts: list[Burst] = []
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

    def append(self, burst: Burst) -> None:
        """Write a burst down."""
        self.bursts.append(burst)
        line: dict[str, Any] = {
            "round": burst.round,
            "sitting": burst.sitting,
            "workload": burst.workload,
            "ms": list(burst.timing.ms),
        }
        if burst.timing.runs != len(burst.timing.ms):
            line["runs"] = burst.timing.runs
        extra = {"memory_bytes": burst.timing.memory_bytes, **asdict(burst.condition)}
        line |= {name: value for name, value in extra.items() if value is not None}
        self._write({**line, "digest": burst.digest})
        if self._clock() - self._synced >= _SYNC_SECONDS:
            self._sync()

    def remove(self) -> None:
        """Delete the file: its numbers are in a table now."""
        self.path.unlink(missing_ok=True)

    def _begin(self, resume: bool) -> None:
        """Go on with what the file holds, or set it aside; a new one begins with the setting."""
        if os.fstat(self._file.fileno()).st_size > _MOST_FILE_BYTES:
            self._put_aside(f"{self.path}: larger than any journal; it")
        lines = _whole_lines(self._file)
        first = next(lines, None)
        if first is None or (not resume and next(lines, None) is None):
            self._file.truncate(0)  # nothing was measured
        elif not resume:
            self._put_aside("an unfinished run, which --resume goes on with,")
        elif (setting := _setting(first)) is None:
            self._put_aside(f"{self.path}:1: broken line: its setting is lost, and it")
        elif setting != self._setting:
            raise DeviceError(
                f"{self.path} was measured in another setting (device, runtime or its version); "
                "to start over, delete it, or run lat-profile without --resume"
            )
        else:
            self._read(lines)
        if os.fstat(self._file.fileno()).st_size == 0:
            self._write({"setting": self._setting})
            self._sync()
            sync_folder(self.path.parent)

    def _read(self, lines: Iterator[bytes]) -> None:
        """Take over the bursts of these lines, as far as they are sound."""
        end, broken, unknown = self._file.tell(), [], 0
        for number, line in enumerate(lines, 2):
            try:
                burst = _burst(line, end)
            except ValueError as error:  # a `ValidationError`, too
                broken.append(f"{self.path}:{number}: broken line: {_message(error)}")
            else:
                if burst is None:
                    unknown += 1
                else:
                    self.bursts.append(burst)
            end = self._file.tell()
        self._file.truncate(end)
        if broken:
            self.notes.append(f"{broken[0]}; {len(broken)} of {number - 1} lines are left out")
        if unknown:
            self.notes.append(
                f"{self.path}: {unknown} bursts are left out: an earlier version of lat-search "
                "wrote them, which does not say what networks consist of"
            )

    def _put_aside(self, what: str) -> None:
        """Begin a new file; the old one is kept beside it."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            self._sync()


def _within(name: str) -> Any:
    """A field of a number that a row of a table has, too."""
    least, most = BOUNDS[name]
    return Field(ge=least, le=most)


class _Line(BaseModel):
    """A burst as it is written down."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    round: int = Field(ge=0)
    sitting: int = Field(ge=0, lt=1 << 31)
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
    """The lines of a file but for a last one that is cut short; of a line that is too long, the
    beginning."""
    file.seek(0)
    while line := file.readline(_MOST_BYTES):
        end = line
        while not end.endswith(b"\n"):
            if not (end := file.readline(_MOST_BYTES)):
                return
        yield line


def _setting(line: bytes) -> list[str] | None:
    """What a file holds for, by its first line; None where that does not say."""
    try:
        return _First.model_validate_json(line).setting
    except ValidationError:
        return None


def _burst(text: bytes, place: int) -> Burst | None:
    """The burst of a line at a place of the file; None where it does not say what was run. Raises
    `ValueError` where it is none."""
    line = _Line.model_validate_json(text)
    if line.round > place // _LEAST_BYTES:
        raise ValueError("round: more than there can have been before it")
    digest = _digest_of_operator(line.workload) if line.digest is None else line.digest
    if digest is None:
        return None
    timing = Timing(line.ms, line.runs or len(line.ms), line.memory_bytes)
    condition = Condition(line.temperature_c, line.frequency_mhz)
    return Burst(line.round, line.sitting, line.workload, timing, condition, digest)


def _digest_of_operator(name: str) -> str | None:
    """What earlier versions did not write down: that of the operator whose key this is; None for
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
