"""Timing of runs, and the statistic of repeated times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import NamedTuple

TimeRuns = Callable[[int, int], list[int]]
"""(warmup, runs) -> ns of each run."""


class UnableError(Exception):
    """The request cannot be served on this machine; the message says what would help."""


class LoadedModel(NamedTuple):
    """A model that is ready to run. `memory_bytes`: accelerator memory in use, if known."""

    time_runs: TimeRuns
    memory_bytes: int | None = None


def timed(execute: Callable[[], object]) -> TimeRuns:
    """Turn a function that runs a model once into one that times its runs."""

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
    """Interquartile mean: robust to outliers, and finer than a profiler's clock of 1 us."""
    ordered, quarter = sorted(times), len(times) // 4
    middle = ordered[quarter : len(ordered) - quarter]
    return sum(middle) / len(middle)
