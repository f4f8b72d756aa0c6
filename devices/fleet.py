"""A fleet: several devices of one card share the work of one table.

    queue of chunks ──▶ a worker a device ──▶ one result
          ▲                     │ device fails
          └──── handed back ────┘

A few anchors, measured by all, tell how well the devices agree.
"""

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest

import numpy as np

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.record import LEAST_TOGETHER
from devices.measuring.rounds import Keeper, Measured, OnProgress, Progress, known_before, measure
from latency.errors import DeviceError, LatError
from latency.tables.measurement import Measurement

ANCHORS = 2
_CHUNKS_A_DEVICE = 2
AGREEMENT = 0.05
"""Devices whose anchors differ by more are no one hardware setting."""


def measure_on_all(
    devices: Sequence[Device],
    workloads: Sequence[Workload],
    measuring: Measuring,
    journals: Sequence[Keeper] = (),
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    absent: Sequence[Keeper] = (),
) -> Measured:
    """Measure workloads on all devices at once, each on one of them; on one device, `measure`.

    `journals`: one a device, or none. What a device has in its journal is not measured again by
    another; `absent` are those of devices that are not here now, whose complete workloads count.
    A device that fails hands its work back to the others. Raises `DeviceError` where the devices
    are not of one setting, and the last device's error where all have failed.
    """
    anchors = choose_anchors(workloads) if len(devices) > 1 else ()
    known = _taken_over(absent, [w for w in workloads if w not in anchors], measuring)
    left = [w for w in workloads if w.name not in known]
    if len(devices) == 1:
        journal = journals[0] if journals else None
        measured = measure(devices[0], left, measuring, journal, on_progress, seed)
    else:
        measured = _measure_together(devices, left, anchors, measuring, journals, on_progress, seed)
    if not known:
        return measured
    said = {"taken over": f"{len(known)} measured before, by devices that are absent now"}
    rows, happened = {**known, **measured.rows}, {**measured.circumstances, **said}
    return replace(measured, rows=rows, circumstances=happened)


def within_reach(devices: Sequence[Device]) -> tuple[tuple[Device, ...], dict[str, LatError]]:
    """The devices that answer, and by label why the others don't. Raises the first one's error
    where none does."""
    with ThreadPoolExecutor(len(devices)) as pool:
        errors = list(pool.map(_out_of_reach, devices))
    lost = {d.label: error for d, error in zip(devices, errors, strict=True) if error}
    found = tuple(device for device, error in zip(devices, errors, strict=True) if not error)
    if not found:
        raise next(iter(lost.values()))
    return found, lost


def _measure_together(
    devices: Sequence[Device],
    workloads: Sequence[Workload],
    anchors: Sequence[Workload],
    measuring: Measuring,
    journals: Sequence[Keeper],
    on_progress: OnProgress,
    seed: int,
) -> Measured:
    """Measure workloads on several devices: the anchors on all of them, the others on one each."""
    _check_alike(devices)
    work = _Work(
        [_Worker(d, j) for d, j in zip_longest(devices, journals)],
        len(workloads) + (len(devices) - 1) * len(anchors),
        on_progress,
    )
    work.hand_out([w for w in workloads if w not in anchors])
    for worker in work.workers:
        worker.anchors = list(anchors)
    while any(worker.todo or worker.anchors for worker in work.workers) or work.queue:
        alive = [worker for worker in work.workers if worker.error is None]
        if not alive:
            raise next(worker.error for worker in work.workers if worker.error)
        work.run(alive, measuring, seed)
    return _together(work.workers, anchors)


def choose_anchors(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """Single operators from small to large, by multiply-accumulates, to be measured by all."""
    singles = sorted(
        (w for w in workloads if not w.is_network), key=lambda w: (w.ops[0].macs, w.name)
    )
    ranks = np.linspace(0, len(singles) - 1, ANCHORS + 2)[1:-1].round().astype(int)
    return tuple(singles[rank] for rank in dict.fromkeys(ranks.tolist())) if singles else ()


@dataclass
class _Worker:
    """A device and its share of the work."""

    device: Device
    journal: Keeper | None
    anchors: list[Workload] = field(default_factory=list)
    todo: list[Workload] = field(default_factory=list)
    results: list[Measured] = field(default_factory=list)
    under_way: float = 0.0
    error: LatError | None = None


class _Work:
    """What is to be done, and who does it."""

    def __init__(self, workers: list[_Worker], total: int, on_progress: OnProgress) -> None:
        self.workers = workers
        self.queue: deque[list[Workload]] = deque()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._unexpected: BaseException | None = None
        self._total, self._on_progress = total, on_progress

    def hand_out(self, workloads: Sequence[Workload]) -> None:
        """To each device what its journal has begun; the rest in chunks into the queue."""
        owners = {
            burst.workload: worker
            for worker in self.workers
            if worker.journal is not None
            for burst in worker.journal.bursts
        }
        for workload in workloads:
            if owner := owners.get(workload.name):
                owner.todo.append(workload)
        rest = [w for w in workloads if w.name not in owners]
        for is_network in (True, False):
            alike = [w for w in rest if w.is_network == is_network]
            self.queue.extend(_chunks(alike, len(self.workers)))

    def run(self, workers: Iterable[_Worker], measuring: Measuring, seed: int) -> None:
        """Work on all devices until the queue is empty; what a failing device leaves goes back."""
        threads = [
            threading.Thread(target=self._work, args=(worker, measuring, seed), daemon=True)
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._stop.set()
            for thread in threads:
                thread.join()
            raise
        if self._unexpected is not None:
            raise self._unexpected

    def _work(self, worker: _Worker, measuring: Measuring, seed: int) -> None:
        while worker.error is None:
            if not worker.todo and not worker.anchors:
                with self._lock:
                    if not self.queue:
                        return
                    worker.todo = self.queue.popleft()
            batch = worker.anchors + worker.todo
            try:
                worker.results.append(
                    measure(
                        worker.device,
                        batch,
                        measuring,
                        worker.journal,
                        partial(self._report, worker),
                        seed,
                        sleep=self._sleep,
                    )
                )
                worker.anchors, worker.todo, worker.under_way = [], [], 0.0
            except _StoppedError:
                return
            except LatError as error:
                worker.error = error
                if worker.todo:
                    with self._lock:
                        self.queue.append(worker.todo)
                worker.anchors, worker.todo, worker.under_way = [], [], 0.0
            except BaseException as error:  # raised again where the fleet is waited for
                self._unexpected = error
                self._stop.set()
                return

    def _sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the run is to end."""
        if self._stop.wait(seconds):
            raise _StoppedError

    def _report(self, worker: _Worker, progress: Progress) -> None:
        if self._stop.is_set():
            raise _StoppedError
        with self._lock:
            batch = len(worker.anchors) + len(worker.todo)
            worker.under_way = batch * progress.done / progress.total
            done = sum(len(r.rows) for w in self.workers for r in w.results)
            done += int(sum(w.under_way for w in self.workers))
            alive = sum(w.error is None for w in self.workers)
            self._on_progress(Progress(done, self._total, f"measuring on {alive} devices"))


def _chunks(workloads: Sequence[Workload], devices: int) -> list[list[Workload]]:
    """Equal shares, two for each device, or one where that is too few to tell drift by; each of
    them from all over the list, since neighbours in it take about as long."""
    for count in (_CHUNKS_A_DEVICE * devices, devices):
        if len(workloads) >= count * LEAST_TOGETHER:
            break
    else:
        count = max(1, len(workloads) // LEAST_TOGETHER)
    return [list(share) for i in range(count) if (share := workloads[i::count])]


class _StoppedError(Exception):
    """The user wants the run to end."""


def _out_of_reach(device: Device) -> LatError | None:
    """Why a device does not answer; None where it does."""
    try:
        _ = device.setting
    except LatError as error:
        return error
    return None


def _taken_over(
    absent: Sequence[Keeper], workloads: Sequence[Workload], measuring: Measuring
) -> dict[str, Measurement]:
    """What the journals of devices that are not here now hold, complete, of workloads."""
    rows: dict[str, Measurement] = {}
    for journal in absent:
        rows |= known_before(workloads, measuring, journal.bursts)
    return rows


def _check_alike(devices: Sequence[Device]) -> None:
    first = devices[0].setting
    for device in devices[1:]:
        if device.setting.identity != first.identity:
            raise DeviceError(
                f"{device.label} is not the same as {devices[0].label} "
                f"({device.setting.hardware}, {device.setting.runtime}; {first.hardware}, "
                f"{first.runtime}): only devices of one setting share a table"
            )


def _together(workers: Sequence[_Worker], anchors: Sequence[Workload]) -> Measured:
    """One result of all: the anchors by the median device, and how the devices agree on them."""
    rows: dict[str, list[Measurement]] = {}
    failures: dict[str, str] = {}
    circumstances: dict[str, str] = {}
    for worker in workers:
        for result in worker.results:
            failures |= result.failures
            circumstances |= {
                f"{what} on {worker.device.label}": said
                for what, said in result.circumstances.items()
            }
            for name, row in result.rows.items():
                rows.setdefault(name, []).append(row)
    merged = {
        name: sorted(found, key=lambda row: row.median_ms)[len(found) // 2]
        for name, found in rows.items()
    }
    circumstances["fleet"] = _agreement(workers, anchors, merged)
    return Measured(merged, {n: e for n, e in failures.items() if n not in merged}, circumstances)


def _agreement(
    workers: Sequence[_Worker], anchors: Sequence[Workload], merged: Mapping[str, Measurement]
) -> str:
    names = [anchor.name for anchor in anchors if anchor.name in merged]
    off = {
        worker.device.label: float(
            np.median([r.rows[n].median_ms / merged[n].median_ms - 1 for r, n in found])
        )
        for worker in workers
        if (found := [(r, n) for r in worker.results for n in names if n in r.rows])
    }
    lost = [f"{w.device.label} failed ({w.error})" for w in workers if w.error]
    said = ", ".join(f"{label} {100 * share:+.1f} %" for label, share in off.items())
    worst = max(map(abs, off.values()), default=0.0)
    verdict = "agree" if worst <= AGREEMENT else "DISAGREE: measure them into a table each"
    return "; ".join([f"{len(off)} devices {verdict} on {len(names)} anchors: {said}", *lost])
