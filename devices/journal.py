"""`Journal`: measurements on disk as they arrive, so that a killed run loses nothing.

JSON lines. First what the numbers hold for, then one line a burst:

    {"setting": ["cpu", "AMD EPYC ...", ...]}
    {"round": 0, "sitting": 0, "workload": "conv-224x224x3-32-k3-s2-relu6", "ms": [0.151, 0.149]}

and where they are known, "runs" (where `ms` is their median alone), "memory_bytes",
"temperature_c" and "frequency_mhz".
"""

import fcntl
import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from devices.device import Condition, Timing
from devices.drift import Burst
from latency.errors import DeviceError
from latency.formats import Setting


class Journal:
    """Append-only file of bursts. `bursts`: all of them, those of an earlier run first.

    Opening with `resume` reads what an earlier run wrote; without it, an earlier run's file is
    set aside as `<name>.old` (`set_aside` says so). A last line cut short by a kill is dropped.
    Raises `DeviceError` where another process is writing to it, or where the file was written in
    another setting.
    """

    def __init__(self, path: Path, setting: Setting, resume: bool) -> None:
        self.path = path
        self.bursts: list[Burst] = []
        self.set_aside: Path | None = None
        self._first = json.dumps({"setting": [str(value) for value in setting.identity]}) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise DeviceError(f"another run is measuring into {path}; wait for it") from None
        try:
            self._open(resume)
        except BaseException:
            self._file.close()
            raise

    def _open(self, resume: bool) -> None:
        path = self.path
        if resume:
            self._read()
        elif path.stat().st_size > len(self._first):
            self.set_aside = path.with_suffix(".old")
            self.set_aside.write_bytes(path.read_bytes())
            self._file.truncate(0)
        if path.stat().st_size == 0:
            self._write(self._first)

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
        self._write(json.dumps(line) + "\n")

    def remove(self) -> None:
        """Delete the file: its numbers are in a table now."""
        self.path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()

    def _read(self) -> None:
        self._file.seek(0)
        whole = [line for line in self._file if line.endswith("\n")]
        if whole and whole[0] != self._first:
            raise DeviceError(
                f"{self.path} was measured in another setting (device, runtime or its version); "
                "run without --resume to start over"
            )
        for number, line in enumerate(whole[1:], 2):
            try:
                self.bursts.append(_burst(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DeviceError(
                    f"{self.path}:{number}: broken line; run without --resume"
                ) from None
        self._file.truncate(sum(len(line.encode()) for line in whole))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _burst(line: dict[str, Any]) -> Burst:
    ms = tuple(float(value) for value in line["ms"])
    if not ms or not min(ms) > 0:
        raise ValueError("no times")
    timing = Timing(ms, int(line.get("runs", len(ms))), line.get("memory_bytes"))
    condition = Condition(line.get("temperature_c"), line.get("frequency_mhz"))
    return Burst(int(line["round"]), int(line["sitting"]), str(line["workload"]), timing, condition)
