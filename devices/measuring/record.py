"""The record of a measurement, with the device's drift taken out of it.

A shared machine is now faster, now slower. Each round measures many workloads within a second,
so what they have in common from round to round is the machine's drift, and what is left is their
own. With log time

    log burst[round, workload] = level[workload] + drift[round] + noise

level and drift are found by median polish (Tukey, Exploratory Data Analysis, 1977, chapter 11),
separately for single operators and for whole networks, which feel other things: a network streams
its weights from far memory that it shares with the machine's other users.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from latency.stats import clustered_median, two_modes
from latency.tables.measurement import Measurement

LEAST_TOGETHER = 8
"""In a round with fewer workloads of a kind, drift cannot be told from their noise."""

_POLISHES = 3


@dataclass(frozen=True)
class Burst:
    """Back-to-back runs of a workload, in a round, by one process on the device. `workload` is its
    name, `digest` says what was run."""

    round: int
    sitting: int
    workload: str
    timing: Timing
    condition: Condition = field(default_factory=Condition)
    digest: str = ""

    @property
    def ms(self) -> float:
        """The burst as one sample: the median of its runs."""
        return float(np.median(self.timing.ms))


class Record:
    """All bursts of a measurement of `workloads`; `earlier` ones are those of the run that is
    resumed, whose rounds and sittings are counted on from. Of these, those count that ran the same
    as one of the workloads, by its digest."""

    def __init__(
        self, workloads: Sequence[Workload], measuring: Measuring, earlier: Iterable[Burst] = ()
    ) -> None:
        self.workloads = tuple(workloads)
        self.rounds = 0
        self.sittings = 0
        self._measuring = measuring
        self._bursts: dict[str, list[Burst]] = {w.name: [] for w in workloads}
        # Per kind (single operator, network): log of each burst, (rounds, workloads), and what
        # they tell: the factor by which the device was slower than usual, (rounds,).
        self._columns = {
            is_network: {w.name: i for i, w in enumerate(_of_kind(workloads, is_network))}
            for is_network in (False, True)
        }
        self._logs = {kind: np.empty((0, len(names))) for kind, names in self._columns.items()}
        self._drift = {kind: np.empty(0) for kind in self._columns}
        names = {workload.digest: workload.name for workload in reversed(self.workloads)}
        for burst in earlier:
            self.rounds = max(self.rounds, burst.round + 1)
            self.sittings = max(self.sittings, burst.sitting + 1)
            if burst.digest in names:
                self.add(replace(burst, workload=names[burst.digest]))
        self.end_round()

    def add(self, burst: Burst) -> None:
        """A burst of the current round."""
        self._bursts[burst.workload].append(burst)
        self.sittings = max(self.sittings, burst.sitting + 1)
        for kind, columns in self._columns.items():
            missing = burst.round + 1 - len(self._logs[kind])
            if missing > 0:
                rows = np.full((missing, len(columns)), np.nan)
                self._logs[kind] = np.vstack([self._logs[kind], rows])
            if burst.workload in columns:
                self._logs[kind][burst.round, columns[burst.workload]] = math.log(burst.ms)

    def end_round(self) -> None:
        """No more bursts come in this round: tell its drift."""
        self.rounds = max(self.rounds, *map(len, self._logs.values()))
        self._drift = {kind: np.exp(median_polish(logs)) for kind, logs in self._logs.items()}

    def count(self, workload: Workload) -> int:
        """Bursts made of a workload."""
        return len(self._bursts[workload.name])

    def most(self, workload: Workload) -> int:
        """Up to how many bursts may be made of it."""
        rule = self._measuring
        return rule.max_network_bursts if workload.is_network else rule.max_bursts

    def has_room(self, workload: Workload) -> bool:
        """Whether more bursts may be made of it."""
        return self.count(workload) < self.most(workload)

    def last_ms(self, workload: Workload) -> float | None:
        """About how long a run of it takes, if that is known."""
        bursts = self._bursts[workload.name]
        return bursts[-1].ms if bursts else None

    def below(self, bursts: int, redo: bool = True) -> list[Workload]:
        """Workloads with fewer bursts that may have more. With `redo`, a round that drifted does
        not count, but is made up for; where the device never holds still, twice as many bursts are
        enough."""
        counts = {
            w: max(len(self._steady(w)), self.count(w) // 2) if redo else self.count(w)
            for w in self.workloads
        }
        return [w for w, count in counts.items() if count < bursts and self.has_room(w)]

    def unfinished(self) -> list[Workload]:
        """Workloads whose interval is wider than asked, and that may have more bursts."""
        return [w for w in self.workloads if not self.is_finished(w)]

    def is_finished(self, workload: Workload) -> bool:
        """Whether its interval is as narrow as asked, or nothing more may be done for it."""
        if not self.has_room(workload):
            return True
        if self.count(workload) < self._measuring.min_bursts:
            return False
        median, half = clustered_median([[b.ms for b in s] for s in self._sittings(workload)])
        return half <= median * self._asked(workload)

    def measurement(self, workload: Workload, measured_at: str = "") -> Measurement:
        """Median and interval over the workload's bursts, free of drift, and what is to be said
        of them."""
        bursts = self._bursts[workload.name]
        summary = Measurement.from_bursts(
            [[burst.timing.ms for burst in sitting] for sitting in self._sittings(workload)]
        )
        converged = summary.relative_ci95 <= self._asked(workload)
        memory = [b.timing.memory_bytes for b in bursts if b.timing.memory_bytes is not None]
        return replace(
            summary,
            runs=sum(burst.timing.runs for burst in bursts),
            measured_at=measured_at,
            converged=converged,
            memory_bytes=max(memory, default=None),
            temperature_c=_typical([b.condition.temperature_c for b in bursts]),
            frequency_mhz=_typical([b.condition.frequency_mhz for b in bursts]),
            note=self._note(workload, converged),
        )

    @property
    def drifts(self) -> NDArray[np.float64]:
        """By how much each round was off the usual speed, relative; operators and networks."""
        return np.concatenate([np.abs(drift - 1) for drift in self._drift.values()])

    @property
    def conditions(self) -> list[Condition]:
        """The device's state at each burst, in order of time."""
        bursts = [burst for bursts in self._bursts.values() for burst in bursts]
        return [burst.condition for burst in sorted(bursts, key=lambda burst: burst.round)]

    def _asked(self, workload: Workload) -> float:
        return self._measuring.network_ci95 if workload.is_network else self._measuring.ci95

    def _steady(self, workload: Workload) -> list[Burst]:
        """Its bursts in rounds that did not drift by more than the card allows."""
        drift = self._drift[workload.is_network]
        return [
            burst
            for burst in self._bursts[workload.name]
            if burst.round >= len(drift) or abs(drift[burst.round] - 1) <= self._measuring.drift
        ]

    def _sittings(self, workload: Workload) -> list[list[Burst]]:
        """Its bursts by the process that made them, drift taken out: the steady ones where they
        are enough, all of them elsewhere."""
        bursts = self._steady(workload)
        if len(bursts) < self._measuring.min_bursts:
            bursts = self._bursts[workload.name]
        drift = self._drift[workload.is_network]
        sittings: dict[int, list[Burst]] = {}
        for burst in bursts:
            factor = drift[burst.round] if burst.round < len(drift) else 1.0
            ms = tuple(float(value / factor) for value in burst.timing.ms)
            steadied = replace(burst, timing=replace(burst.timing, ms=ms))
            sittings.setdefault(burst.sitting, []).append(steadied)
        return list(sittings.values())

    def _note(self, workload: Workload, converged: bool) -> str:
        sittings = self._sittings(workload)
        samples = [burst.ms for sitting in sittings for burst in sitting]
        if modes := two_modes(samples):
            between = two_modes([float(np.median([b.ms for b in s])) for s in sittings])
            low, high = modes
            remedy = (
                "its processes differ: more sittings"
                if between
                else "set the governor to performance, set affinity in the card, stop other work"
            )
            return f"bimodal: {low:.4g} ms or {high:.4g} ms; {remedy}"
        if converged:
            return ""
        return (
            "unstable: set the governor to performance, set affinity in the card, stop other work"
        )


def _of_kind(workloads: Iterable[Workload], is_network: bool) -> list[Workload]:
    return [workload for workload in workloads if workload.is_network == is_network]


def _typical(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 1) if known else None


def median_polish(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows' effects (rounds,) in `logs` (rounds, workloads), NaN where a workload was not
    measured; their median is zero. Rows with too few workloads get the effect of the last row
    that had enough, or zero."""
    drift = np.zeros(len(logs))
    together = (~np.isnan(logs)).sum(1)
    if not (together >= LEAST_TOGETHER).any():
        return drift
    columns = logs[:, (~np.isnan(logs)).any(0)]
    known = together >= LEAST_TOGETHER
    for _ in range(_POLISHES):
        level = np.nanmedian(columns - drift[:, None], axis=0)
        drift[known] = np.nanmedian(columns[known] - level, axis=1)
        drift -= np.median(drift[known])
    # A round with few workloads: as the one before it that had enough.
    last = np.maximum.accumulate(np.where(known, np.arange(len(logs)), -1))
    return np.where(last >= 0, drift[np.maximum(last, 0)], 0.0)
