"""The record of a measurement, drift-corrected.

The speed of a shared machine varies. Each round measures many workloads within a second, so what
changes in all of them from round to round is the machine's drift. With log time

    log sample[round, workload] = level[workload] + drift[round] + noise

level and drift are estimated by median polish (Tukey, Exploratory Data Analysis, 1977, chapter
11), separately for single operators and for whole networks: these stream their weights from
memory that the machine's other users share.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from devices.card import Measuring
from devices.device import Condition, Timing, Workload
from latency.stats import clustered_median, two_modes
from latency.tables.measurement import Measurement

LEAST_TOGETHER = 8
"""With fewer workloads of a kind in a round, drift cannot be separated from noise."""

_POLISHES = 3
_REMEDY = "set the governor to performance, set affinity in the card, stop other work"


@dataclass(frozen=True)
class Sample:
    """Back-to-back runs of a workload in a round, by one process on the device. `workload` is its
    name, `digest` identifies what was run."""

    round: Annotated[int, Field(ge=0, lt=1 << 20)]
    session: Annotated[int, Field(ge=0, lt=1 << 31)]
    workload: str
    timing: Timing
    condition: Condition = field(default_factory=Condition)
    digest: str = ""

    @property
    def ms(self) -> float:
        """The median of its runs."""
        return float(np.median(self.timing.ms))


class Record:
    """All samples of a measurement of `workloads`. `earlier`: samples of the run that is resumed.
    Rounds and sessions continue its numbers; samples with the digest of a workload count."""

    def __init__(
        self, workloads: Sequence[Workload], measuring: Measuring, earlier: Iterable[Sample] = ()
    ) -> None:
        self.workloads = tuple(workloads)
        self.rounds = 0
        self.sessions = 0
        self._measuring = measuring
        self._samples: dict[str, list[Sample]] = {w.name: [] for w in workloads}
        # Per kind (single operator, network): the log of each sample, (rounds, workloads), and the
        # drift, the factor by which the device was slower than usual, (rounds,).
        self._columns = {
            kind: {
                name: i for i, name in enumerate(w.name for w in workloads if w.is_network == kind)
            }
            for kind in (False, True)
        }
        self._logs = {kind: np.empty((0, len(names))) for kind, names in self._columns.items()}
        self._drift = {kind: np.empty(0) for kind in self._columns}
        names = {workload.digest: workload.name for workload in reversed(self.workloads)}
        for sample in earlier:
            self.rounds = max(self.rounds, sample.round + 1)
            self.sessions = max(self.sessions, sample.session + 1)
            if sample.digest in names:
                self.add(replace(sample, workload=names[sample.digest]))
        self.end_round()

    def add(self, sample: Sample) -> None:
        """Add a sample of the current round."""
        self._samples[sample.workload].append(sample)
        self.sessions = max(self.sessions, sample.session + 1)
        for kind, columns in self._columns.items():
            missing = sample.round + 1 - len(self._logs[kind])
            if missing > 0:
                rows = np.full((missing, len(columns)), np.nan)
                self._logs[kind] = np.vstack([self._logs[kind], rows])
            if sample.workload in columns:
                self._logs[kind][sample.round, columns[sample.workload]] = math.log(sample.ms)

    def end_round(self) -> None:
        """Complete the round: estimate its drift."""
        self.rounds = max(self.rounds, *map(len, self._logs.values()))
        self._drift = {kind: np.exp(median_polish(logs)) for kind, logs in self._logs.items()}

    def count(self, workload: Workload) -> int:
        """Number of samples of a workload."""
        return len(self._samples[workload.name])

    def most(self, workload: Workload) -> int:
        """Cap on the samples of a workload."""
        rule = self._measuring
        return rule.max_network_samples if workload.is_network else rule.max_samples

    def has_room(self, workload: Workload) -> bool:
        """Whether it may have more samples."""
        return self.count(workload) < self.most(workload)

    def last_ms(self, workload: Workload) -> float | None:
        """The time of a run in the last sample; None before the first."""
        samples = self._samples[workload.name]
        return samples[-1].ms if samples else None

    def below(self, samples: int, redo: bool = True) -> list[Workload]:
        """Workloads with fewer samples that may have more. With `redo`, rounds that drifted are
        repeated and do not count; on a device that always drifts, twice as many samples are
        enough."""
        counts = {
            w: max(len(self._steady(w)), self.count(w) // 2) if redo else self.count(w)
            for w in self.workloads
        }
        return [w for w, count in counts.items() if count < samples and self.has_room(w)]

    def is_finished(self, workload: Workload) -> bool:
        """Whether its interval is as narrow as requested, or it has reached its cap."""
        if not self.has_room(workload):
            return True
        if self.count(workload) < self._measuring.min_samples:
            return False
        median, half = clustered_median([[b.ms for b in s] for s in self._sessions(workload)])
        return half <= median * self._asked(workload)

    def measurement(self, workload: Workload, measured_at: str = "") -> Measurement:
        """Median and interval of the workload's samples, drift-corrected, with a note where they
        are unstable."""
        samples = self._samples[workload.name]
        summary = Measurement.from_samples(
            [[sample.timing.ms for sample in session] for session in self._sessions(workload)]
        )
        converged = summary.relative_ci95 <= self._asked(workload)
        memory = [b.timing.memory_bytes for b in samples if b.timing.memory_bytes is not None]
        return replace(
            summary,
            runs=sum(sample.timing.runs for sample in samples),
            measured_at=measured_at,
            converged=converged,
            memory_bytes=max(memory, default=None),
            temperature_c=_typical([b.condition.temperature_c for b in samples]),
            frequency_mhz=_typical([b.condition.frequency_mhz for b in samples]),
            note=self._note(workload, converged),
        )

    @property
    def drifts(self) -> NDArray[np.float64]:
        """Relative drift of each round, of operators and of networks."""
        return np.concatenate([np.abs(drift - 1) for drift in self._drift.values()])

    @property
    def conditions(self) -> list[Condition]:
        """The device's condition at each sample, in order of rounds."""
        samples = [sample for samples in self._samples.values() for sample in samples]
        return [sample.condition for sample in sorted(samples, key=lambda sample: sample.round)]

    def _asked(self, workload: Workload) -> float:
        return self._measuring.network_ci95 if workload.is_network else self._measuring.ci95

    def _steady(self, workload: Workload) -> list[Sample]:
        """Its samples of rounds that drifted by no more than the card allows."""
        drift = self._drift[workload.is_network]
        return [
            sample
            for sample in self._samples[workload.name]
            if sample.round >= len(drift) or abs(drift[sample.round] - 1) <= self._measuring.drift
        ]

    def _sessions(self, workload: Workload) -> list[list[Sample]]:
        """Its samples by session, drift-corrected: the steady ones if they are enough, else all."""
        samples = self._steady(workload)
        if len(samples) < self._measuring.min_samples:
            samples = self._samples[workload.name]
        drift = self._drift[workload.is_network]
        sessions: dict[int, list[Sample]] = {}
        for sample in samples:
            factor = drift[sample.round] if sample.round < len(drift) else 1.0
            ms = tuple(float(value / factor) for value in sample.timing.ms)
            corrected = replace(sample, timing=replace(sample.timing, ms=ms))
            sessions.setdefault(sample.session, []).append(corrected)
        return list(sessions.values())

    def _note(self, workload: Workload, converged: bool) -> str:
        sessions = self._sessions(workload)
        if modes := two_modes([sample.ms for session in sessions for sample in session]):
            differ = two_modes([float(np.median([s.ms for s in session])) for session in sessions])
            remedy = "its processes differ: more sessions" if differ else _REMEDY
            return f"bimodal: {modes[0]:.4g} ms or {modes[1]:.4g} ms; {remedy}"
        return "" if converged else f"unstable: {_REMEDY}"


def _typical(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.median(known)), 1) if known else None


def median_polish(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """The effects of the rows, (rounds,), in `logs`, (rounds, workloads), with NaN for missing
    samples; their median is zero. Rows with too few workloads get the effect of the last row
    with enough, or zero."""
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
