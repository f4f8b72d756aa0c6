"""`ReplayDevice`: answers from a table with its recorded noise, for tests and for planning."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np

from devices.device import Workload
from latency.formats import Setting
from latency.network import NetworkSpec
from latency.table import LatencyTable


class ReplayDevice:
    """A device whose operators take what a table says, and whose networks take their sum.

    `factor` makes every network slower or faster than the table says, as a device does whose
    table is out of date. Times are drawn from normal noise as wide as the recorded intervals.
    """

    def __init__(self, table: LatencyTable, seed: int = 0, factor: float = 1.0) -> None:
        self._table = table
        self._factor = factor
        self._generator = np.random.default_rng(seed)

    @property
    def setting(self) -> Setting:
        return self._table.setting

    def sit(self) -> "ReplaySitting":
        return ReplaySitting(self._table, self._factor, self._generator)


class ReplaySitting:
    """Draws times in place of a process on a device."""

    def __init__(self, table: LatencyTable, factor: float, generator: np.random.Generator) -> None:
        self._table = table
        self._factor = factor
        self._generator = generator
        self._loaded: list[tuple[float, float]] = []

    def load(self, workload: Workload) -> int:
        if len(workload.ops) == 1:
            measured = self._table[workload.ops[0]]
            median, noise = measured.median_ms, measured.relative_ci95
        else:
            prediction = self._table.predict(NetworkSpec.of(workload.name, workload.ops))
            median = self._factor * prediction.ms
            noise = max(self._table[op].relative_ci95 for op in workload.ops)
        self._loaded.append((median, noise))
        return len(self._loaded) - 1

    def run(self, handle: int, warmup: int, runs: int) -> Sequence[float]:
        median, noise = self._loaded[handle]
        times = median * (1 + noise * self._generator.standard_normal(runs))
        return np.maximum(times, median / 10).tolist()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loaded.clear()
