"""Attempts in a process of their own, watched over from here."""

import itertools
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.worker import (
    ANSWERED,
    CRASH,
    HANG,
    MEMORY,
    MOST_MIB,
    MOST_SECONDS,
    PRODUCT,
    REFUSED,
    ROOT,
    SOUND,
    Outcome,
)

SCRIPT = Path(__file__).with_name("worker.py")
_STARTING = 120.0
"""Seconds for the libraries to be loaded and sound files to be made and read."""
_LATE = 20.0
"""Seconds more than an attempt may take, after which its process no longer ends itself."""
_ALONE = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}


@dataclass
class Tally:
    """How attempts ended, and the longest and largest of them; `faults` by what tells them apart:
    how they ended, the error and where; the first of each."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    mib: float = 0.0
    faults: dict[tuple[str, str, str], Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> bool:
        """Whether it is a fault of a kind that has not been seen yet."""
        self.ends[outcome.end] += 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.mib = max(self.mib, outcome.mib)
        if outcome.end in (ANSWERED, REFUSED):
            return False
        key = outcome.end, outcome.said.partition(":")[0], outcome.where
        return self.faults.setdefault(key, outcome) is outcome


def outcomes(kind: str, seeds: Iterable[int], folder: Path) -> Iterator[Outcome]:
    """Those of these attempts on files of a kind, which lie in `folder`, those of each process in
    one of its own there. Raises `RuntimeError` where sound files are not read."""
    worker: _Worker | None = None
    numbers = itertools.count()
    try:
        for seed in seeds:
            worker = worker or _Worker(kind, folder / str(next(numbers)))
            outcome = worker.ask(seed)
            yield outcome
            if outcome.end in (MEMORY, HANG, CRASH):
                worker.close()
                worker = None
    finally:
        if worker:
            worker.close()


class _Worker:
    """A process that has read sound files."""

    def __init__(self, kind: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), kind, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
            env={**os.environ, **_ALONE},
            text=True,
        )
        sound = self.ask(SOUND, _STARTING)
        if sound.end != ANSWERED:
            self.close()
            raise RuntimeError(f"{kind}: sound files: {sound.end}: {sound.said}\n{sound.trace}")

    def ask(self, seed: int, seconds: float = MOST_SECONDS + _LATE) -> Outcome:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return Outcome(seed, HANG, seconds, 0.0, "it does not even end itself")
        if line := self._process.stdout.readline():
            return Outcome(**json.loads(line))
        code = self._process.wait(_LATE)
        self._errors.seek(0)
        trace = self._errors.read()[-20_000:]
        if "Timeout (" in trace:
            told = f"nothing after {MOST_SECONDS:g} s"
            return Outcome(seed, HANG, MOST_SECONDS, 0.0, told, _innermost(trace), trace)
        return Outcome(seed, CRASH, 0.0, 0.0, f"exit code {code}", _innermost(trace), trace)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()


def _innermost(trace: str) -> str:
    """The innermost function of the product in what `faulthandler` wrote: the last call is first,
    the main thread's calls last."""
    main = trace.rpartition("(most recent call first)")[2]
    for file, name in re.findall(r'File "([^"]+)", line \d+ in (\S+)', main):
        if file.startswith(PRODUCT):
            return f"{Path(file).relative_to(ROOT)}:{name}"
    return ""


__all__ = ["ANSWERED", "MOST_MIB", "MOST_SECONDS", "REFUSED", "Outcome", "Tally", "outcomes"]
