"""`PatientSitting`: a sitting that outlives the processes it is made of.

    burst ── load if need be ── warm up if new ── run ──▶ Timing
      ▲                                            │ process gone
      └── load again ◀── start a new process ◀── back off

What was measured stays measured; the burst under way is made again by the new process.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from devices.device import Condition, Device, Sitting, Timing, Workload, tracer
from latency.errors import ConnectionLostError, WorkloadError

Answer = TypeVar("Answer")

_MIN_RUNS, _MAX_RUNS = 2, 50
_LEAST_WARM_UP, _MOST_WARM_UP = 2, 64
_WARM = 0.98
"""A batch of runs that takes more than this share of the batch before is warm."""
_BETWEEN_LOSSES = (0.2, 2.0)
"""Seconds before a workload under which a process was lost is tried again."""
_FATAL_LOSSES = len(_BETWEEN_LOSSES) + 1
"""A workload under which so many processes die in a row cannot be measured."""
_BACK_OFF = (0.2, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further try to get a lost device back."""


class PatientSitting:
    """Bursts on a device. Starts processes on it as they are needed, the first one at once.

    `process` counts them from `first` on. `warm_ups` holds how many runs each workload took until
    it was warm. Raises `ConnectionLostError` where the device does not come back, `WorkloadError`
    where a workload cannot be run on it.
    """

    def __init__(
        self, device: Device, first: int = 0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.process = first - 1
        self.warm_ups: list[int] = []
        self._device = device
        self._sleep = sleep
        self._sitting: Sitting | None = None
        self._handles: dict[Workload, int] = {}
        self._sit_patiently()

    @property
    def traces(self) -> bool:
        """Whether the device tells what the nodes of a model take."""
        return tracer(self._sit_patiently()) is not None

    def burst(self, workload: Workload, burst_ms: float, expected_ms: float | None) -> Timing:
        """Run a workload for about `burst_ms`, warm. `expected_ms`: what a run takes, if known."""
        return self._patiently(lambda s: self._burst(s, workload, burst_ms, expected_ms))

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        """ms of each node that the runtime executes of a workload's model, as a `Tracer` tells
        them; {} where it does not."""

        def ask(sitting: Sitting) -> Mapping[str, float]:
            able = tracer(sitting)
            return {} if able is None else able.trace(workload, warmup, runs)

        return self._patiently(ask)

    def _patiently(self, ask: Callable[[Sitting], Answer]) -> Answer:
        """What a process answers; a new one is asked where one is lost."""
        said = ""
        for loss in range(_FATAL_LOSSES):
            if loss:  # it may be the way to the device that is shaky, not the workload
                self._sleep(_BETWEEN_LOSSES[loss - 1])
            sitting = self._sit_patiently()
            try:
                return ask(sitting)
            except ConnectionLostError as error:
                self._stand_up()
                said = str(error)
        raise WorkloadError(f"{_FATAL_LOSSES} processes in a row were lost under it: {said}")

    def condition(self) -> Condition:
        """The device's temperature and clock now; nothing where the process is gone just now."""
        try:
            return self._sit_patiently().condition()
        except ConnectionLostError:
            self._stand_up()
            return Condition()

    def _burst(
        self, sitting: Sitting, workload: Workload, burst_ms: float, expected_ms: float | None
    ) -> Timing:
        if workload not in self._handles:
            self._handles[workload] = sitting.load(workload)
            if sitting.is_resident:
                expected_ms = self._warm_up(sitting, self._handles[workload], burst_ms)
        if expected_ms is None:
            expected_ms = sitting.run(self._handles[workload], 0, 1).ms[0]
        runs = int(np.clip(burst_ms / expected_ms, _MIN_RUNS, _MAX_RUNS))
        # The first run brings the model back into the caches.
        return sitting.run(self._handles[workload], 0 if expected_ms > burst_ms else 1, runs)

    def _warm_up(self, sitting: Sitting, handle: int, burst_ms: float) -> float:
        """Run for as long as a burst at least, and until a batch is no faster than the one before
        it; ms of a run then."""
        before = sitting.run(handle, 0, 1).ms[0]
        done, batch = 1, _LEAST_WARM_UP
        while done < _MOST_WARM_UP:
            after = float(np.median(sitting.run(handle, 0, batch).ms))
            done += batch
            is_steady = after > _WARM * before and done * after >= burst_ms
            if is_steady or done * after > 20 * burst_ms + 10 * after:
                break
            before, batch = after, 2 * batch
        self.warm_ups.append(done)
        return after

    def _sit(self) -> Sitting:
        if self._sitting is None:
            self._sitting = self._device.sit()
            self.process += 1
        return self._sitting

    def _sit_patiently(self) -> Sitting:
        """The process on the device, or a new one after as many tries as the back-off has."""
        for seconds in _BACK_OFF:
            try:
                return self._sit()
            except ConnectionLostError:
                self._sleep(seconds)
        return self._sit()

    def _stand_up(self) -> None:
        self._handles.clear()
        if self._sitting is not None:
            self._sitting.__exit__(None, None, None)
            self._sitting = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stand_up()
