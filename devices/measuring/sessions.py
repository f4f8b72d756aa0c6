"""`RetryingSession`: a session that outlives the processes it is made of.

    sample ── load if needed ── warm up if new ── run ──▶ Timing
      ▲                                             │ process lost
      └── load again ◀── start a new process ◀── back off

Earlier samples are kept; the new process takes the lost one again.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

import numpy as np

from devices.device import Condition, Device, Session, Timing, Workload
from latency.errors import ConnectionLostError, WorkloadError

_MIN_RUNS, _MAX_RUNS = 2, 50
_LEAST_WARM_UP, _MOST_WARM_UP = 2, 64
_WARM = 0.98
"""A model is warm when a batch of runs takes more than this share of the previous batch."""


class RetryingSession:
    """Takes samples on a device; starts a process at once, and another where one is lost.

    `process` counts the processes from `first` on. `warm_ups` holds the number of warm-up runs of
    each workload. Raises `ConnectionLostError` where the device does not come back,
    `WorkloadError` where a workload cannot be run.
    """

    start_waits = (0.2, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
    """Seconds before each retry of starting a process on a device that does not answer."""
    workload_waits = (0.2, 2.0)
    """Seconds before each retry of a workload whose process was lost; then it has failed."""

    def __init__(
        self, device: Device, first: int = 0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.process = first - 1
        self.warm_ups: list[int] = []
        self._device = device
        self._sleep = sleep
        self._session: Session | None = None
        self._handles: dict[Workload, int] = {}
        self._open()

    @property
    def traces(self) -> bool:
        """Whether the runtime reports the time of each node of a model."""
        return self._open().traces

    def sample(self, workload: Workload, sample_ms: float, expected_ms: float | None) -> Timing:
        """Run a warm workload for about `sample_ms`. `expected_ms`: the time of a run, if known."""
        losses: list[str] = []
        while True:
            with self._attempt(losses) as session:
                if workload not in self._handles:
                    self._handles[workload] = session.load(workload)
                    if session.is_resident:
                        expected_ms = self._warm_up(session, self._handles[workload], sample_ms)
                handle = self._handles[workload]
                if expected_ms is None:
                    expected_ms = session.run(handle, 0, 1).ms[0]
                runs = int(np.clip(sample_ms / expected_ms, _MIN_RUNS, _MAX_RUNS))
                # The first run brings the model back into the caches.
                return session.run(handle, 0 if expected_ms > sample_ms else 1, runs)

    def trace(self, workload: Workload, warmup: int, runs: int) -> Mapping[str, float]:
        """ms of each node of a workload's model (`Session.trace`); {} without a profiler."""
        losses: list[str] = []
        while True:
            with self._attempt(losses) as session:
                return session.trace(workload, warmup, runs)

    def condition(self) -> Condition:
        """The device's temperature and clock now; unknown where the process has just been lost."""
        try:
            return self._open().condition()
        except ConnectionLostError:
            self._close()
            return Condition()

    @contextmanager
    def _attempt(self, losses: list[str]) -> Iterator[Session]:
        """One attempt at a workload, after `losses`; a lost process is added to them. Raises
        `WorkloadError` after the last attempt."""
        if losses:  # the connection may be at fault, not the workload
            self._sleep(self.workload_waits[len(losses) - 1])
        session = self._open()
        try:
            yield session
        except ConnectionLostError as error:
            self._close()
            losses.append(str(error))
            if len(losses) > len(self.workload_waits):
                raise WorkloadError(
                    f"{len(losses)} processes in a row were lost while running it: {error}"
                ) from None

    def _warm_up(self, session: Session, handle: int, sample_ms: float) -> float:
        """Run for at least `sample_ms`, and until a batch is no faster than the previous one; ms
        of a run of the last batch."""
        before = session.run(handle, 0, 1).ms[0]
        done, batch = 1, _LEAST_WARM_UP
        while done < _MOST_WARM_UP:
            after = float(np.median(session.run(handle, 0, batch).ms))
            done += batch
            is_steady = after > _WARM * before and done * after >= sample_ms
            if is_steady or done * after > 20 * sample_ms + 10 * after:
                break
            before, batch = after, 2 * batch
        self.warm_ups.append(done)
        return after

    def _open(self) -> Session:
        """The process on the device; a new one where there is none."""
        waits = iter(self.start_waits)
        while self._session is None:
            try:
                self._session = self._device.open_session()
                self.process += 1
            except ConnectionLostError:
                seconds = next(waits, None)
                if seconds is None:
                    raise
                self._sleep(seconds)
        return self._session

    def _close(self) -> None:
        self._handles.clear()
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
