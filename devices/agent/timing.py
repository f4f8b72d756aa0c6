"""How runs are timed, and what the times are reduced to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import NamedTuple

TimeRuns = Callable[[int, int], list[int]]
"""(warmup, runs) -> ns of each run."""


class UnableError(Exception):
    """What is asked for cannot be had here; the text says what would help."""


class LoadedModel(NamedTuple):
    """A model that is ready to run, and the bytes of accelerator memory that it takes, where they
    are known."""

    time_runs: TimeRuns
    memory_bytes: int | None = None


def timed(execute: Callable[[], object]) -> TimeRuns:
    """A function (warmup, runs) -> ns of each run, of a function that runs a model once."""

    def time_runs(warmup: int, runs: int) -> list[int]:
        for _ in range(warmup):
            execute()
        times = []
        for _ in range(runs):
            start = perf_counter_ns()
            execute()
            times.append(perf_counter_ns() - start)
        return times

    return time_runs


def typical(times: Sequence[float]) -> float:
    """Mean of the middle half: no slow run moves it, and it is finer than the clock of a
    profiler that counts in microseconds."""
    ordered, quarter = sorted(times), len(times) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)
