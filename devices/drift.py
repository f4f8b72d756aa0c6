"""The record of a measurement, with the device's drift taken out of it.

A shared machine is now faster, now slower. Each round measures many workloads within a second,
so what they have in common from round to round is the machine's drift, and what is left is their
own. With log time

    log burst[round, workload] = level[workload] + drift[round] + noise

level and drift are found by median polish (Tukey, Exploratory Data Analysis, 1977, chapter 11),
separately for single operators and for whole networks, which feel other things: a network streams
its weights from far memory that it shares with the machine's other users.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.card import Measuring
from devices.device import Workload
from latency.measurement import Measurement
from latency.stats import median_interval

LEAST_TOGETHER = 8
"""In a round with fewer workloads of a kind, drift cannot be told from their noise."""

_POLISHES = 3


@dataclass(frozen=True)
class Burst:
    """Back-to-back runs of a workload in a round; ms of each run."""

    round: int
    workload: str
    ms: tuple[float, ...]


class Record:
    """All bursts of a measurement; `earlier` ones are those of the run that is resumed."""

    def __init__(self, workloads: Sequence[Workload], earlier: Iterable[Burst] = ()) -> None:
        self.workloads = tuple(workloads)
        self.rounds = 0
        self._drift: dict[bool, NDArray[np.float64]] = {}
        self._bursts: dict[str, list[Burst]] = {w.name: [] for w in workloads}
        # Per kind (single operator, network): log median of each burst, (rounds, workloads).
        self._columns = {
            is_network: {w.name: i for i, w in enumerate(_of_kind(workloads, is_network))}
            for is_network in (False, True)
        }
        self._logs = {kind: np.empty((0, len(names))) for kind, names in self._columns.items()}
        for burst in earlier:
            if burst.workload in self._bursts:
                self._place(burst)
        self.end_round()

    def add(self, workload: Workload, ms: Sequence[float]) -> None:
        """A burst of the current round."""
        self._place(Burst(self.rounds, workload.name, tuple(ms)))

    def end_round(self) -> None:
        """No more bursts come in this round: tell its drift."""
        self.rounds = max(map(len, self._logs.values()))
        self._drift = self._tell_drift()

    def below(self, bursts: int) -> list[Workload]:
        """Workloads with fewer bursts."""
        return [w for w in self.workloads if len(self._bursts[w.name]) < bursts]

    def unfinished(self, measuring: Measuring) -> list[Workload]:
        """Workloads whose interval is wider than asked, and that may have more bursts."""
        return [w for w in self.workloads if not self._is_finished(w, measuring)]

    def measurement(self, workload: Workload, measured_at: str = "") -> Measurement:
        """Median and interval over the workload's bursts, free of drift."""
        drift = self._drift[workload.is_network]
        steadied = [
            [ms / drift[burst.round] for ms in burst.ms] for burst in self._bursts[workload.name]
        ]
        return Measurement.from_bursts(steadied, measured_at)

    def _is_finished(self, workload: Workload, measuring: Measuring) -> bool:
        count = len(self._bursts[workload.name])
        if not measuring.min_bursts <= count < measuring.max_bursts:
            return count >= measuring.max_bursts
        kind = workload.is_network
        column = self._logs[kind][:, self._columns[kind][workload.name]]
        steadied = np.exp(column) / self._drift[kind][: len(column)]
        median, half = median_interval(steadied[~np.isnan(steadied)])
        return half <= median * (measuring.network_ci95 if kind else measuring.ci95)

    def _place(self, burst: Burst) -> None:
        self._bursts[burst.workload].append(burst)
        for kind, columns in self._columns.items():
            missing = burst.round + 1 - len(self._logs[kind])
            if missing > 0:
                rows = np.full((missing, len(columns)), np.nan)
                self._logs[kind] = np.vstack([self._logs[kind], rows])
            if burst.workload in columns:
                log = np.log(np.median(burst.ms))
                self._logs[kind][burst.round, columns[burst.workload]] = log

    def _tell_drift(self) -> dict[bool, NDArray[np.float64]]:
        """Per kind: the factor by which the device was slower than usual, for each round."""
        return {kind: np.exp(median_polish(logs)) for kind, logs in self._logs.items()}


def _of_kind(workloads: Iterable[Workload], is_network: bool) -> list[Workload]:
    return [workload for workload in workloads if workload.is_network == is_network]


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
