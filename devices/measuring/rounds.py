"""Measuring: rounds of samples until the median of every workload is known well enough."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from devices.card import Measuring
from devices.device import Condition, Device, Workload
from devices.measuring.record import LEAST_TOGETHER, Record, Sample
from devices.measuring.sessions import RetryingSession
from latency.errors import DeviceError, WorkloadError
from latency.tables.measurement import Measurement

_log = logging.getLogger(__name__)
_SENTINELS = 16
"""Each round measures at least this many workloads of a kind, finished ones among them."""


@dataclass(frozen=True)
class Progress:
    """How far a measurement has come: `done` of `total` samples expected so far."""

    done: int
    total: int
    doing: str


OnProgress = Callable[[Progress], None]


class Keeper(Protocol):
    """Keeps samples as they arrive, after those of an earlier run: a `Journal`, for example."""

    samples: list[Sample]

    def append(self, sample: Sample) -> None:
        """Keep a sample."""


@dataclass
class Kept:
    """A `Keeper` in memory."""

    samples: list[Sample] = field(default_factory=list)

    def append(self, sample: Sample) -> None:
        self.samples.append(sample)


@dataclass(frozen=True)
class Measured:
    """The measurements of workloads, by name.

    `failures`: the errors of workloads that could not be measured. `circumstances`: the device's
    drift, temperature, clock and warm-up meanwhile, as text.
    """

    rows: Mapping[str, Measurement]
    failures: Mapping[str, str]
    circumstances: Mapping[str, str]

    @property
    def happened(self) -> str:
        """The circumstances in one line."""
        return "; ".join(f"{name}: {value}" for name, value in self.circumstances.items())

    def __getitem__(self, name: str) -> Measurement:
        """A workload's measurement; `DeviceError` where it failed."""
        if name in self.failures:
            raise DeviceError(f"{name} could not be measured: {self.failures[name]}")
        return self.rows[name]


def measure(
    device: Device,
    workloads: Sequence[Workload],
    measuring: Measuring,
    journal: Keeper | None = None,
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Measured:
    """Measure workloads in randomised rounds, over several processes on the device.

    Each round takes one sample of every workload that is due, in random order, and of some others
    that show the device's drift (`devices.measuring.record`). Every sample is journaled as it
    ends, and samples already in the journal count. After the minimum of sessions and samples,
    workloads whose interval is wider than requested get more, up to the caps on samples, sessions
    and seconds. Only workloads that others need to show drift get more samples than their cap.

    A workload that fails is named in the result. Raises `ConnectionLostError` where the device
    is lost for good; what was measured is in the journal.
    """
    run = _Run(workloads, measuring, journal, seed, clock)
    for turn in range(max(measuring.sessions, measuring.max_sessions)):
        due = run.due(turn)
        if not due:
            continue
        if run.record.sessions and measuring.pause_seconds:
            sleep(measuring.pause_seconds)
        _log.info("%s: session %d, %d to measure", device.label, turn + 1, len(due))
        with RetryingSession(device, run.record.sessions, sleep) as session:
            while waiting := run.waiting(due):
                condition = cooled(session, measuring, clock, sleep)
                number = run.record.rounds
                for workload in run.with_sentinels(waiting):
                    expected_ms = run.record.last_ms(workload)
                    try:
                        timing = session.sample(workload, measuring.sample_ms, expected_ms)
                    except WorkloadError as error:
                        run.failures[workload.name] = str(error)
                    else:
                        name, digest = workload.name, workload.digest
                        run.keep(Sample(number, session.process, name, timing, condition, digest))
                run.record.end_round()
                on_progress(run.progress(due))
            run.final_condition = session.condition()
        run.warm_ups += session.warm_ups
    return run.result()


def known_before(
    workloads: Sequence[Workload], measuring: Measuring, samples: Iterable[Sample]
) -> dict[str, Measurement]:
    """By name, the measurements of workloads that need no more samples than these of one device."""
    record = Record(workloads, measuring, samples)
    return {w.name: record.measurement(w, _now()) for w in workloads if record.is_finished(w)}


class _Run:
    """A measurement in progress: its record, and which workloads are next."""

    def __init__(
        self,
        workloads: Sequence[Workload],
        measuring: Measuring,
        journal: Keeper | None,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.record = Record(workloads, measuring, journal.samples if journal else ())
        self.failures: dict[str, str] = {}
        self.warm_ups: list[int] = []
        self.final_condition = Condition()
        self._measuring, self._journal, self._clock = measuring, journal, clock
        self._generator = np.random.default_rng(seed)
        self._start = clock()
        self._share = math.ceil(measuring.min_samples / measuring.sessions)

    def keep(self, sample: Sample) -> None:
        """Record and journal a sample."""
        self.record.add(sample)
        if self._journal:
            self._journal.append(sample)

    def due(self, turn: int) -> dict[Workload, int]:
        """The workloads to measure in this session, with the number of samples each is to have."""
        if turn < self._measuring.sessions:
            least = min(self._share * (turn + 1), self._measuring.min_samples)
            missing = self.record.below(least, redo=not self._is_late())
            wanted = dict.fromkeys(missing, least)
        elif self._is_late():
            wanted = {}
        else:
            further = self._share * 2 ** (turn - self._measuring.sessions + 1)
            wanted = {
                w: self.record.count(w) + further
                for w in self.record.workloads
                if not self.record.is_finished(w)
            }
        return {w: min(wanted[w], self.record.most(w)) for w in self._alive(wanted)}

    def _alive(self, workloads: Iterable[Workload]) -> list[Workload]:
        return [w for w in workloads if w.name not in self.failures]

    def waiting(self, due: Mapping[Workload, int]) -> list[Workload]:
        """The due workloads that need another round."""
        most = max(due.values())
        if most <= self._measuring.min_samples:
            missing = set(self.record.below(most, redo=not self._is_late()))
        elif self._is_late():
            return []
        else:
            missing = {w for w, count in due.items() if self.record.count(w) < count}
            missing -= {w for w in missing if self.record.is_finished(w)}
        return [w for w in self._alive(due) if w in missing]

    def with_sentinels(self, due: Sequence[Workload]) -> list[Workload]:
        """A round: the due workloads, and others of the same kind as sentinels."""
        chosen = list(due)
        for is_network in {workload.is_network for workload in due}:
            alive = self._alive(self.record.workloads)
            alike = [w for w in alive if w.is_network == is_network]
            rest = [w for w in alike if w not in due]
            if len(alike) >= LEAST_TOGETHER:
                rest = [rest[i] for i in self._generator.permutation(len(rest))]
                chosen += self._sentinels(rest, len(alike) - len(rest))
        return [chosen[i] for i in self._generator.permutation(len(chosen))]

    def _sentinels(self, others: Sequence[Workload], due: int) -> list[Workload]:
        """Of the others, in this order, those to measure beside `due` workloads of their kind: any
        that may have more samples; of those that may not, no more than it takes to show drift."""
        free = [w for w in others if self.record.has_room(w)][: max(0, _SENTINELS - due)]
        full = [w for w in others if not self.record.has_room(w)]
        return free + full[: max(0, LEAST_TOGETHER - due - len(free))]

    def progress(self, due: Mapping[Workload, int]) -> Progress:
        """Samples taken, of those that are due or the minimum."""
        counts = {w: self.record.count(w) for w in self.record.workloads}
        still_due = sum(max(0, most - counts[w]) for w, most in due.items())
        least = {w: min(self._measuring.min_samples, self.record.most(w)) for w in counts}
        to_minimum = sum(max(0, least[w] - count) for w, count in counts.items())
        done = sum(counts.values())
        return Progress(done, done + max(still_due, to_minimum), "measuring")

    def result(self) -> Measured:
        """Everything measured so far."""
        rows = {
            w.name: self.record.measurement(w, _now()) for w in self._alive(self.record.workloads)
        }
        drifts, allowed = self.record.drifts, self._measuring.drift
        circumstances = {
            "sessions": f"{self.record.sessions} processes, {self.record.rounds} rounds",
            "drift": (
                f"{(drifts > allowed).sum()} of {len(drifts)} rounds by over {100 * allowed:g} %, "
                f"worst {100 * drifts.max(initial=0):.1f} %; repeated and drift-corrected"
            ),
            **readings([*self.record.conditions, self.final_condition]),
        }
        if self.warm_ups:
            least, most = min(self.warm_ups), max(self.warm_ups)
            circumstances["warm-up"] = f"{least} to {most} runs, as detected"
        return Measured(rows, self.failures, circumstances)

    def _is_late(self) -> bool:
        return self._clock() - self._start > self._measuring.seconds


def cooled(
    session: RetryingSession,
    measuring: Measuring,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Condition:
    """The device's condition after waiting, up to `cool_seconds`, until it is as cool as asked."""
    since, limit = clock(), measuring.cool_below_c or math.inf
    while True:
        condition = session.condition()
        is_cool = (condition.temperature_c or 0.0) <= limit
        if is_cool or clock() - since > measuring.cool_seconds:
            return condition
        sleep(1.0)


def readings(conditions: Sequence[Condition]) -> dict[str, str]:
    """The first, the last and the range of a device's temperatures and clocks, as text."""
    return {
        "temperature": _span([c.temperature_c for c in conditions], "°C"),
        "frequency": _span([c.frequency_mhz for c in conditions], "MHz"),
    }


def _span(values: Iterable[float | None], unit: str) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "not readable"
    return f"{known[0]:g} to {known[-1]:g} {unit}, {min(known):g} to {max(known):g} meanwhile"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
