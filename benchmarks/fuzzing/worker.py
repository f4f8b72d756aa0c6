"""The process that reads what is damaged: KIND FOLDER.

Reads the numbers of attempts from standard input, one a line, and answers each with one line of
JSON on standard output, an `Outcome`. An attempt that takes too long ends the process, which says
on standard error where it was.
"""

import faulthandler
import json
import logging
import os
import resource
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from fuzzing.kinds import KINDS  # noqa: E402
from fuzzing.target import Target  # noqa: E402
from latency.errors import LatError  # noqa: E402
from search.console import in_one_line, notice, notices  # noqa: E402

PRODUCT = tuple(f"{ROOT / room}{os.sep}" for room in ("latency", "devices", "search"))
MOST_SECONDS = 10.0
MOST_MIB = 2000.0
MOST_CHARACTERS = 2000
_SPARE = 4 << 30
"""Bytes of addresses over what the libraries take: the machine is others', too."""

ANSWERED, REFUSED = "read", "refused in words"
UNCLEAR, TRACEBACK = "refused, but not in one line of text", "traceback"
HANG, MEMORY, CRASH = "hang", "too much memory", "process lost"
SOUND = -1
"""The number of the attempt with sound files."""


@dataclass(frozen=True)
class Outcome:
    """How attempt number `seed` ended, after how many seconds and at how many MiB, those of the
    libraries among them; what was `said`, `where` in the product, and the `trace` of a fault."""

    seed: int
    end: str
    seconds: float
    mib: float
    said: str = ""
    where: str = ""
    trace: str = ""


def attempt(target: Target, seed: int, most_seconds: float = 0.0) -> Outcome:
    """Damage the files and read them; with `most_seconds`, the process ends where that takes
    longer."""
    generator = Random(seed)
    target.restore() if seed == SOUND else target.damage(generator)
    error: BaseException | None = None
    if most_seconds:
        faulthandler.dump_traceback_later(most_seconds, exit=True)
    start = time.perf_counter()
    try:
        target.read(generator)
    except (Exception, SystemExit) as raised:
        error = raised
    seconds = time.perf_counter() - start
    faulthandler.cancel_dump_traceback_later()
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    end = MEMORY if mib > MOST_MIB else _end(error)
    if error is None:
        return Outcome(seed, end, seconds, mib)
    trace = "".join(traceback.format_exception(error)) if end not in (ANSWERED, REFUSED) else ""
    return Outcome(seed, end, seconds, mib, said(error), _where(error), trace[-20_000:])


def _end(error: BaseException | None) -> str:
    if error is None:
        return ANSWERED
    if isinstance(error, MemoryError):
        return MEMORY
    if isinstance(error, LatError) or (isinstance(error, OSError) and error.errno is not None):
        return REFUSED if _is_one_line(error) else UNCLEAR
    return TRACEBACK


def _is_one_line(error: Exception) -> bool:
    """Whether a terminal shows an error as commands print it in one line, not too long, in
    characters that do nothing to it."""
    with notices.capture() as shown:
        notice(in_one_line(error))
    text = shown.get().removesuffix("\n")
    return text.isprintable() and len(text) < MOST_CHARACTERS


def said(error: BaseException) -> str:
    """The type of an error, and the first line of what it says, fit for a terminal."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {ascii(lines[0][:200])[1:-1]}"


def _where(error: BaseException) -> str:
    """The innermost function of the product that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PRODUCT)]
    return f"{Path(ours[-1].filename).relative_to(ROOT)}:{ours[-1].name}" if ours else ""


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["LAT_DATA"] = str(folder / "user-data")
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable()
    target = KINDS[kind](folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for line in sys.stdin:
        seed = int(line)
        outcome = attempt(target, seed, 0.0 if seed == SOUND else MOST_SECONDS)
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    main()
