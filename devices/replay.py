"""`ReplayDevice`: replays a table with its recorded noise, for tests and for planning."""

import time
from collections.abc import Callable
from typing import Self

import numpy as np

from devices.device import Condition, Timing, Workload
from devices.export.onnx_model import Weights
from latency.errors import CoverageError, WorkloadError
from latency.operators.network import NetworkSpec
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable


class ReplayDevice:
    """A device whose operators take the times of a table, and whose networks take their sum.

    `factor` scales the times of networks, as on a device whose table is out of date. Times have
    normal noise as wide as the recorded intervals. `pace` 1 waits for as long as the device ran, 0
    does not wait.
    """

    suffix = ""

    def __init__(
        self,
        table: LatencyTable,
        seed: int = 0,
        factor: float = 1.0,
        pace: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.label = f"replay-{seed}"
        self._table = table
        self._factor = factor
        self._generator = np.random.default_rng(seed)
        self._pace = pace
        self._sleep = sleep

    @property
    def setting(self) -> Setting:
        return self._table.setting

    def build(self, network: NetworkSpec, weights: Weights) -> bytes:
        return b""

    def open_session(self) -> "ReplaySession":
        return ReplaySession(self)

    def draw(self, median_ms: float, noise: float, warmup: int, runs: int) -> Timing:
        """Draw the times of runs around a median, and wait for them at the device's pace."""
        times = median_ms * (1 + noise * self._generator.standard_normal(runs))
        times = np.maximum(times, median_ms / 10)
        if self._pace:
            self._sleep(self._pace * (warmup * median_ms + times.sum()) / 1e3)
        return Timing(tuple(times.tolist()), runs)

    def level(self, workload: Workload) -> tuple[float, float]:
        """Median in ms and relative noise of a workload."""
        if not workload.is_network:
            measured = self._table[workload.ops[0]]
            return measured.median_ms, measured.relative_ci95
        network = NetworkSpec.of(workload.name, workload.ops)
        prediction = self._table.predict(network)
        noise = max(self._table[op].relative_ci95 for op in network.parts)
        return self._factor * prediction.ms, noise


class ReplaySession:
    """Draws times instead of running a process on a device."""

    is_resident = True
    traces = False

    def __init__(self, device: ReplayDevice) -> None:
        self._device = device
        self._loaded: list[tuple[float, float]] = []

    def load(self, workload: Workload) -> int:
        try:
            self._loaded.append(self._device.level(workload))
        except CoverageError as error:
            raise WorkloadError(str(error)) from None
        return len(self._loaded) - 1

    def run(self, handle: int, warmup: int, runs: int) -> Timing:
        return self._device.draw(*self._loaded[handle], warmup, runs)

    def trace(self, workload: Workload, warmup: int, runs: int) -> dict[str, float]:
        return {}

    def condition(self) -> Condition:
        return Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._loaded.clear()
