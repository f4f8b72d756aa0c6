"""A fleet: several devices of one card share the work of one table.

    queue of chunks ──▶ one worker per device ──▶ one result
          ▲                     │ device fails
          └──── handed back ────┘

A few anchor workloads, measured on every device, show how well the devices agree.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
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
_CHUNKS_PER_DEVICE = 2
AGREEMENT = 0.05
"""Devices whose anchors differ by more are not of one hardware setting."""


def measure_on_all(
    devices: Sequence[Device],
    workloads: Sequence[Workload],
    measuring: Measuring,
    journals: Sequence[Keeper] = (),
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    absent: Sequence[Keeper] = (),
) -> Measured:
    """Measure each workload on one of the devices, on all devices at once.

    `journals`: one per device, or none. A device measures the workloads that its journal has
    begun. `absent`: journals of devices that are not connected now, whose complete workloads
    count. A device that fails hands its work back to the others. Raises `DeviceError` where the
    devices are not of one setting, and the error of a device where all have failed.
    """
    anchors = choose_anchors(workloads) if len(devices) > 1 else ()
    shared = [w for w in workloads if w not in anchors]
    known: dict[str, Measurement] = {}
    for kept in absent:
        known |= known_before(shared, measuring, kept.samples)
    left = [w for w in workloads if w.name not in known]
    if len(devices) == 1:
        journal = journals[0] if journals else None
        measured = measure(devices[0], left, measuring, journal, on_progress, seed)
    else:
        _check_alike(devices)
        workers = [_Worker(device, kept) for device, kept in zip_longest(devices, journals)]
        total = len(left) + (len(devices) - 1) * len(anchors)
        fleet = _Fleet(workers, anchors, measuring, seed, total, on_progress)
        fleet.run([w for w in left if w not in anchors])
        measured = _merged(workers, anchors)
    if not known:
        return measured
    note = f"{len(known)} measured before, by devices that are absent now"
    return replace(
        measured,
        rows={**known, **measured.rows},
        circumstances={**measured.circumstances, "taken over": note},
    )


def within_reach(devices: Sequence[Device]) -> tuple[tuple[Device, ...], dict[str, LatError]]:
    """The devices that answer, and by label the errors of the others. Raises the first of these
    where none answers."""
    with ThreadPoolExecutor(len(devices)) as pool:
        settings = [pool.submit(getattr, device, "setting") for device in devices]
    found, lost = [], {}
    for device, setting in zip(devices, settings, strict=True):
        try:
            setting.result()
            found.append(device)
        except LatError as error:
            lost[device.label] = error
    if not found:
        raise next(iter(lost.values()))
    return tuple(found), lost


def choose_anchors(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """Single operators from small to large, by multiply-accumulates, for every device."""
    singles = sorted(
        (w for w in workloads if not w.is_network), key=lambda w: (w.ops[0].macs, w.name)
    )
    ranks = np.linspace(0, len(singles) - 1, ANCHORS + 2)[1:-1].round().astype(int)
    return tuple(singles[rank] for rank in dict.fromkeys(ranks.tolist())) if singles else ()


@dataclass
class _Worker:
    """A device and its share of the work; `in_progress`: how many workloads of it are measured."""

    device: Device
    journal: Keeper | None
    todo: list[Workload] = field(default_factory=list)
    results: list[Measured] = field(default_factory=list)
    in_progress: float = 0.0
    error: LatError | None = None


class _StoppedError(Exception):
    """The user interrupts the run."""


@dataclass
class _Fleet:
    """Workers, and the queue of what no worker has yet."""

    workers: Sequence[_Worker]
    anchors: Sequence[Workload]
    measuring: Measuring
    seed: int
    total: int
    on_progress: OnProgress
    queue: deque[list[Workload]] = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, workloads: Sequence[Workload]) -> None:
        """Measure the anchors on every device, and each workload on one that has not failed."""
        self._hand_out(workloads)
        while self.queue or any(worker.todo for worker in self.workers):
            alive = [worker for worker in self.workers if worker.error is None]
            if not alive:
                raise next(worker.error for worker in self.workers if worker.error)
            with ThreadPoolExecutor(len(alive)) as pool:
                try:
                    for ended in as_completed([pool.submit(self._work, one) for one in alive]):
                        ended.result()
                except BaseException:
                    self.stop.set()
                    raise

    def _hand_out(self, workloads: Sequence[Workload]) -> None:
        """To each device the anchors and what its journal has begun; the rest into the queue."""
        rest = list(workloads)
        for worker in self.workers:
            begun = {s.workload for s in worker.journal.samples} if worker.journal else set()
            worker.todo = [*self.anchors, *(w for w in rest if w.name in begun)]
            rest = [w for w in rest if w.name not in begun]
        for is_network in (True, False):
            alike = [w for w in rest if w.is_network == is_network]
            self.queue.extend(_chunks(alike, len(self.workers)))

    def _work(self, worker: _Worker) -> None:
        """Measure a worker's share, then chunks of the queue; a failed device hands back."""
        while worker.error is None:
            with self.lock:
                if not worker.todo:
                    if not self.queue:
                        return
                    worker.todo = self.queue.popleft()
            try:
                result = measure(
                    worker.device,
                    worker.todo,
                    self.measuring,
                    journal=worker.journal,
                    on_progress=partial(self._report, worker),
                    seed=self.seed,
                    sleep=self._sleep,
                )
                worker.results.append(result)
            except _StoppedError:
                return
            except LatError as error:
                worker.error = error
                if left := [w for w in worker.todo if w not in self.anchors]:
                    with self.lock:
                        self.queue.append(left)
            worker.todo, worker.in_progress = [], 0.0

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the run is interrupted."""
        if self.stop.wait(seconds):
            raise _StoppedError

    def _report(self, worker: _Worker, progress: Progress) -> None:
        if self.stop.is_set():
            raise _StoppedError
        with self.lock:
            worker.in_progress = len(worker.todo) * progress.done / progress.total
            done = sum(len(r.rows) for w in self.workers for r in w.results)
            done += int(sum(w.in_progress for w in self.workers))
            alive = sum(w.error is None for w in self.workers)
            self.on_progress(Progress(done, self.total, f"measuring on {alive} devices"))


def _chunks(workloads: Sequence[Workload], devices: int) -> list[list[Workload]]:
    """Equal shares: two per device, or one where two are too few to estimate drift. A share takes
    every n-th workload, since neighbours in the list take about as long."""
    most = len(workloads) // LEAST_TOGETHER
    count = next((n for n in (_CHUNKS_PER_DEVICE * devices, devices) if n <= most), max(1, most))
    return [list(share) for i in range(count) if (share := workloads[i::count])]


def _check_alike(devices: Sequence[Device]) -> None:
    first = devices[0].setting
    for device in devices[1:]:
        if device.setting.identity != first.identity:
            raise DeviceError(
                f"{device.label} is not the same as {devices[0].label} "
                f"({device.setting.hardware}, {device.setting.runtime}; {first.hardware}, "
                f"{first.runtime}): only devices of one setting share a table"
            )


def _merged(workers: Sequence[_Worker], anchors: Sequence[Workload]) -> Measured:
    """One result of all: the median device's anchors, and how far the devices agree on them."""
    rows: dict[str, list[Measurement]] = {}
    failures: dict[str, str] = {}
    circumstances: dict[str, str] = {}
    for worker in workers:
        for result in worker.results:
            failures |= result.failures
            for name, value in result.circumstances.items():
                circumstances[f"{name} on {worker.device.label}"] = value
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
    off: dict[str, float] = {}
    for worker in workers:
        rows = [(r.rows[name], name) for r in worker.results for name in names if name in r.rows]
        if rows:
            ratios = [row.median_ms / merged[name].median_ms for row, name in rows]
            off[worker.device.label] = float(np.median(ratios)) - 1
    lost = [f"{w.device.label} failed ({w.error})" for w in workers if w.error]
    differences = ", ".join(f"{label} {100 * share:+.1f} %" for label, share in off.items())
    worst = max(map(abs, off.values()), default=0.0)
    verdict = "agree" if worst <= AGREEMENT else "DISAGREE: measure them into a table each"
    return "; ".join(
        [f"{len(off)} devices {verdict} on {len(names)} anchors: {differences}", *lost]
    )
