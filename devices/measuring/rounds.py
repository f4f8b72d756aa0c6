"""Measuring in rounds of bursts until every median is known well enough."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from devices.card import Measuring
from devices.device import Condition, Device, Workload
from devices.measuring.record import LEAST_TOGETHER, Burst, Record
from devices.measuring.sessions import PatientSitting
from latency.errors import ConnectionLostError, DeviceError, WorkloadError
from latency.tables.measurement import Measurement

_log = logging.getLogger(__name__)
_SENTINELS = 16
"""At least so many workloads of a kind are measured in each round, finished ones among them."""


@dataclass(frozen=True)
class Progress:
    """How far a measurement has come: `done` of `total` bursts that are foreseen so far."""

    done: int
    total: int
    doing: str


OnProgress = Callable[[Progress], None]


class Keeper(Protocol):
    """Keeps bursts as they arrive, and has those that were kept before: a `Journal`, say."""

    bursts: list[Burst]

    def append(self, burst: Burst) -> None:
        """Keep a burst."""
        ...


class Kept:
    """A `Keeper` in memory."""

    def __init__(self) -> None:
        self.bursts: list[Burst] = []

    def append(self, burst: Burst) -> None:
        self.bursts.append(burst)


@dataclass(frozen=True)
class Measured:
    """What came of measuring workloads, by name.

    `failures`: those that could not be measured, and why. `circumstances`: what happened
    meanwhile, in words: drift of the device, its temperature and clock, warm-up.
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

    Each round runs one burst of every workload that is due, in random order, and of some others,
    whose changes from round to round tell the device's drift (`devices.measuring.record`). Every
    burst is journaled as it ends, and what the journal already holds counts; without a journal,
    nothing is kept. After the least number of sittings and bursts, further ones go to the workloads
    whose interval is wider than asked, up to the caps on bursts, sittings and seconds. Only
    workloads that are needed beside others, to tell drift, have more bursts than their cap.

    A workload that fails is named in the result. Raises `ConnectionLostError` where the device
    is gone for good; what was measured is in the journal.
    """
    run = _Run(device, workloads, measuring, journal, on_progress, seed, clock, sleep)
    for turn in range(max(measuring.sittings, measuring.max_sittings)):
        due = run.due(turn)
        if due:
            if run.record.sittings and measuring.pause_seconds:
                sleep(measuring.pause_seconds)
            _log.info("%s: sitting %d, %d to measure", device.label, turn + 1, len(due))
            run.sit(due)
    return run.result()


def known_before(
    workloads: Sequence[Workload], measuring: Measuring, bursts: Iterable[Burst]
) -> dict[str, Measurement]:
    """What the bursts of one device tell, by name, of those workloads that need no more of them."""
    record = Record(workloads, measuring, bursts)
    return {w.name: record.measurement(w, _now()) for w in workloads if record.is_finished(w)}


class _Run:
    """A measurement under way."""

    def __init__(
        self,
        device: Device,
        workloads: Sequence[Workload],
        measuring: Measuring,
        journal: Keeper | None,
        on_progress: OnProgress,
        seed: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.record = Record(workloads, measuring, journal.bursts if journal else ())
        self._device, self._measuring, self._journal = device, measuring, journal
        self._on_progress, self._clock, self._sleep = on_progress, clock, sleep
        self._generator = np.random.default_rng(seed)
        self._start = clock()
        self._failures: dict[str, str] = {}
        self._warm_ups: list[int] = []
        self._given_up_cooling = 0
        self._at_last = Condition()
        self._share = math.ceil(measuring.min_bursts / measuring.sittings)

    def due(self, turn: int) -> dict[Workload, int]:
        """The workloads that are measured in this sitting, and up to how many bursts each."""
        if turn < self._measuring.sittings:
            least = min(self._share * (turn + 1), self._measuring.min_bursts)
            lacking = self.record.below(least, redo=not self._is_late())
            wanted = dict.fromkeys(lacking, least)
        elif self._is_late():
            wanted = {}
        else:
            further = self._share * 2 ** (turn - self._measuring.sittings + 1)
            wanted = {w: self.record.count(w) + further for w in self.record.unfinished()}
        return {w: min(wanted[w], self.record.most(w)) for w in self._alive(wanted)}

    def _alive(self, workloads: Iterable[Workload]) -> list[Workload]:
        """Those that have not failed."""
        return [w for w in workloads if w.name not in self._failures]

    def sit(self, due: dict[Workload, int]) -> None:
        """Measure in rounds, in a fresh process, until each has its bursts or is known."""
        is_first = max(due.values()) <= self._measuring.min_bursts
        with PatientSitting(self._device, self.record.sittings, self._sleep) as sitting:
            while waiting := self._waiting(due, is_first):
                self._round(sitting, waiting)
                self._report(due)
            self._at_last = last_condition(sitting)
        self._warm_ups += sitting.warm_ups

    def _waiting(self, due: Mapping[Workload, int], is_first: bool) -> list[Workload]:
        alive = self._alive(due)
        if is_first:
            lacking = set(self.record.below(max(due.values()), redo=not self._is_late()))
            return [w for w in alive if w in lacking]
        if self._is_late():
            return []
        return [
            w for w in alive if self.record.count(w) < due[w] and not self.record.is_finished(w)
        ]

    def _round(self, sitting: PatientSitting, due: Sequence[Workload]) -> None:
        """One burst of each due workload, and of sentinels."""
        condition = self._cool(sitting)
        number = self.record.rounds
        for workload in self._with_sentinels(due):
            try:
                timing = sitting.burst(
                    workload, self._measuring.burst_ms, self.record.last_ms(workload)
                )
            except WorkloadError as error:
                self._failures[workload.name] = str(error)
                continue
            burst = Burst(
                number, sitting.process, workload.name, timing, condition, workload.digest
            )
            self.record.add(burst)
            if self._journal:
                self._journal.append(burst)
        self.record.end_round()

    def _with_sentinels(self, due: Sequence[Workload]) -> list[Workload]:
        """The due workloads, and others of the same kind up to the number of sentinels."""
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
        that may have more bursts; of those that may not, no more than it takes to tell drift."""
        free = [w for w in others if self.record.has_room(w)][: max(0, _SENTINELS - due)]
        full = [w for w in others if not self.record.has_room(w)]
        return free + full[: max(0, LEAST_TOGETHER - due - len(free))]

    def _cool(self, sitting: PatientSitting) -> Condition:
        condition = cooled(sitting, self._measuring, self._clock, self._sleep)
        self._given_up_cooling += _is_warm(condition, self._measuring)
        return condition

    def _is_late(self) -> bool:
        return self._clock() - self._start > self._measuring.seconds

    def _report(self, due: Mapping[Workload, int]) -> None:
        counts = {w: self.record.count(w) for w in self.record.workloads}
        still = sum(max(0, most - counts[w]) for w, most in due.items())
        least = {w: min(self._measuring.min_bursts, self.record.most(w)) for w in counts}
        foreseen = max(still, sum(max(0, least[w] - count) for w, count in counts.items()))
        done = sum(counts.values())
        self._on_progress(Progress(done, done + foreseen, "measuring"))

    def result(self) -> Measured:
        """Everything measured so far."""
        rows = {
            w.name: self.record.measurement(w, _now()) for w in self._alive(self.record.workloads)
        }
        return Measured(rows, self._failures, self._circumstances())

    def _circumstances(self) -> dict[str, str]:
        drifts, asked = self.record.drifts, self._measuring.drift
        conditions = [*self.record.conditions, self._at_last]
        said = {
            "sittings": f"{self.record.sittings} processes, {self.record.rounds} rounds",
            "drift": (
                f"{(drifts > asked).sum()} of {len(drifts)} rounds by over {100 * asked:g} %, "
                f"worst {100 * drifts.max(initial=0):.1f} %; made up for and corrected"
            ),
            "temperature": span([c.temperature_c for c in conditions], "°C"),
            "frequency": span([c.frequency_mhz for c in conditions], "MHz"),
        }
        if self._warm_ups:
            least, most = min(self._warm_ups), max(self._warm_ups)
            said["warm-up"] = f"{least} to {most} runs, as detected"
        if self._given_up_cooling:
            said["cooling"] = f"given up {self._given_up_cooling} times"
        return said


def cooled(
    sitting: PatientSitting,
    measuring: Measuring,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Condition:
    """Wait until a device is as cool as its card asks, but not for ever; its condition then."""
    since, condition = clock(), sitting.condition()
    while _is_warm(condition, measuring) and clock() - since <= measuring.cool_seconds:
        sleep(1.0)
        condition = sitting.condition()
    return condition


def last_condition(sitting: PatientSitting) -> Condition:
    """A device's condition after all that was measured on it; nothing where it is gone by now."""
    try:
        return sitting.condition()
    except ConnectionLostError:
        return Condition()


def _is_warm(condition: Condition, measuring: Measuring) -> bool:
    limit, now = measuring.cool_below_c, condition.temperature_c
    return bool(limit and now and now > limit)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(values: Iterable[float | None], unit: str) -> str:
    """First and last of what was read of a device, and the ends between them, in words."""
    known = [value for value in values if value is not None]
    if not known:
        return "not readable"
    return f"{known[0]:g} to {known[-1]:g} {unit}, {min(known):g} to {max(known):g} meanwhile"
