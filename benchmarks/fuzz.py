"""What is promised of broken input of every kind: an answer or a word, never a traceback, soon,
and in bounded memory.

    python benchmarks/fuzz.py [--kind KIND ...] [--seed N] [--count N] [--folder FOLDER]

Attempt N on files of a kind damages them in the same way each time: --seed N alone makes that one
and shows its traceback, and --folder keeps its files. Exits with 1 where there is a fault.
"""

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from figure import Figure
from fuzzing.kinds import KINDS
from fuzzing.trying import (
    ANSWERED,
    MOST_MIB,
    MOST_SECONDS,
    REFUSED,
    Outcome,
    Tally,
    outcomes,
)
from fuzzing.worker import CRASH, HANG, MEMORY, TRACEBACK, UNCLEAR

COUNTS = {"onnx": 10_000, "table": 2_000, "network": 2_000}
COUNT = 1_000
"""Attempts on files of each other kind."""


def fuzz() -> Iterator[Figure]:
    """All kinds, each as often as was promised."""
    tallies = {kind: tried(kind, range(COUNTS.get(kind, COUNT))) for kind in KINDS}
    for kind, tally in tallies.items():
        least = COUNTS.get(kind, COUNT)
        yield Figure(f"damaged: {kind}", tally.ends.total(), least=least)
    ends = sum((tally.ends for tally in tallies.values()), Counter())
    for end in (ANSWERED, REFUSED):
        yield Figure(f"  {end}", ends[end])
    for end in (UNCLEAR, TRACEBACK, CRASH, HANG, MEMORY):
        yield Figure(f"  {end}", ends[end], 0)
    slowest = max(tally.seconds for tally in tallies.values())
    yield Figure("  slowest", slowest, MOST_SECONDS, unit="s")
    largest = max(tally.mib for tally in tallies.values())
    yield Figure("  memory of the largest process", largest, MOST_MIB, unit="MiB")


def tried(
    kind: str, seeds: Iterable[int], folder: Path | None = None, with_trace: bool = False
) -> Tally:
    """Damage files of a kind and read them; tells of each fault once, on standard error."""
    tally = Tally()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for outcome in outcomes(kind, seeds, folder or Path(temporary)):
            if tally.add(outcome):
                _tell(kind, outcome, with_trace)
    return tally


def _tell(kind: str, outcome: Outcome, with_trace: bool) -> None:
    if with_trace:
        print(outcome.trace, file=sys.stderr)
    print(
        f"{kind} --seed {outcome.seed}: {outcome.end}: {outcome.said} ({outcome.where or '?'}; "
        f"{outcome.seconds:.1f} s, {outcome.mib:.0f} MiB)",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--seed", type=int, help="the first attempt; 0 where not given")
    parser.add_argument("--count", type=int, help="how many attempts; 1 with --seed")
    parser.add_argument("--folder", type=Path, help="where the files lie, and stay")
    asked = parser.parse_args()
    is_one = asked.seed is not None and asked.count is None
    first, faults = asked.seed or 0, 0
    for kind in asked.kind:
        count = 1 if is_one else asked.count or COUNTS.get(kind, COUNT)
        folder = asked.folder and asked.folder.resolve() / kind
        tally = tried(kind, range(first, first + count), folder, with_trace=is_one)
        ends = ", ".join(f"{number} {end}" for end, number in tally.ends.most_common())
        print(f"{kind}: {ends}; slowest {tally.seconds:.1f} s, largest {tally.mib:.0f} MiB")
        faults += len(tally.faults)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
