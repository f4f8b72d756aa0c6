"""Kernels of CNNs traced inside random networks, by the runtime's profiler."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from devices.card import Measuring
from devices.device import Condition, Device, Timing, Workload
from devices.kernel_suite.random_cnns import RandomNetwork, draw_networks
from devices.kernel_suite.rows import SENTINEL, by_kernel, is_whole, kernel_table, network_ms
from devices.kernel_suite.sampling import expected_errors
from devices.measuring.record import Sample
from devices.measuring.rounds import Keeper, OnProgress, Progress, cooled, readings
from devices.measuring.sessions import RetryingSession
from devices.measuring.tracing import TraceTimes, trace_model
from latency.errors import DeviceError, WorkloadError
from latency.graphs.fusion import SUITE, Fusion
from latency.predictors.regression import fit, operators_of
from latency.tables.calibration import Validation, validate
from latency.tables.table import LatencyTable
from latency.units import LEAST_MS

_SESSIONS = 3
"""Processes in which each network is traced; the interval covers the differences between them."""
_SENTINEL_MS = 60.0
_SLOWER, _WAIT_S, _MOST_WAITS = 1.06, 2.0, 150
"""The idle gate waits while the device is slower than its fastest by this factor, for up to five
minutes in all."""
_TIMES = TraceTimes(traced_ms=250.0, whole_ms=120.0, runs=(6, 40), warm_up=3)
_EVEN, _CANDIDATES = 0.6, 2
"""The share of evenly drawn networks, and the number of candidates for each of the others."""
_FOLDS = 8
"""Of the cross-validation."""


def trace_kernels(
    device: Device,
    fusion: Fusion,
    measuring: Measuring,
    journal: Keeper,
    on_progress: OnProgress,
    count: int,
) -> LatencyTable:
    """The table of the kernels that the runtime executes of `count` random networks. The first are
    drawn evenly, and give the table's error by cross-validation; the rest have the highest expected
    error. `measuring` sets the cooling. Raises `DeviceError` where the device fails."""
    first = math.ceil(_EVEN * count)
    batch = device.setting.batch
    networks = draw_networks(first, fusion, batch=batch)
    by_size = sorted(networks, key=lambda network: (network.graph.macs, network.graph.name))
    sentinel = replace(by_size[len(by_size) // 4].workload, name=SENTINEL)
    tracing = _Tracing(device, measuring, journal, on_progress, sentinel, count)
    samples = tracing.trace(networks)
    if count > first:
        table = kernel_table(device.setting, networks, samples)
        drawn = draw_networks(_CANDIDATES * (count - first), fusion, first, batch)
        errors = expected_errors(table, [network.graph for network in drawn])
        order = np.argsort([-sum(each.values()) for each in errors], kind="stable")
        networks += [drawn[i] for i in order[: count - first]]
        samples = tracing.trace(networks)
    table = kernel_table(device.setting, networks, samples)
    conditions = readings([*(sample.condition for sample in samples), tracing.final_condition])
    how = (
        f"{len(table)} kernels inside {len(networks)} random networks, by the runtime's "
        f"profiler, in {_SESSIONS} processes; "
        + "; ".join(f"{name}: {value}" for name, value in conditions.items())
    )
    validation = _cross_validated(table, networks, first, samples)
    return replace(table, validations={SUITE: validation}, measured={SUITE: how}, fusion=fusion)


@dataclass
class _Tracing:
    """Traces networks in several processes, with a sentinel before each network.

    In each process every network is timed without the profiler and then traced; its kernels are
    scaled to add up to it. The idle gate waits while the sentinel shows a busy device. Networks in
    the journal are not measured again; those that the runtime cannot run are left out.
    """

    device: Device
    measuring: Measuring
    journal: Keeper
    on_progress: OnProgress
    sentinel: Workload
    count: int
    final_condition: Condition = field(default_factory=Condition)

    def __post_init__(self) -> None:
        on_wait = partial(self._report, "waiting for an idle device")
        self._gate = IdleGate(self.sentinel, on_wait=on_wait)
        self._done = {(s.session, s.digest) for s in self.journal.samples if is_whole(s)}
        self._generator = np.random.default_rng(0)

    def trace(self, networks: Sequence[RandomNetwork]) -> list[Sample]:
        """Samples of the kernels inside networks, of each whole network, and of the sentinel, up to
        the last of these networks: later samples of an interrupted run have no influence."""
        for process in range(_SESSIONS):
            order = [networks[i] for i in self._generator.permutation(len(networks))]
            todo = [n for n in order if (process, n.workload.digest) not in self._done]
            if not todo:
                continue
            with RetryingSession(self.device, first=process) as session:
                for network in todo:
                    with suppress(WorkloadError):
                        for sample in self._samples(session, network, process):
                            self.journal.append(sample)
                    self._done.add((process, network.workload.digest))
                    self._report("tracing random networks")
                self.final_condition = session.condition()
        names = {network.graph.name for network in networks}
        digests = {network.workload.digest for network in networks} | {self.sentinel.digest}
        samples = [sample for sample in self.journal.samples if sample.digest in digests]
        last = max((i for i, sample in enumerate(samples) if sample.workload in names), default=-1)
        return samples[: last + 1]

    def _samples(
        self, session: RetryingSession, network: RandomNetwork, process: int
    ) -> Iterator[Sample]:
        """Samples of the sentinel, of the kernels, and last of the whole network."""
        workload, condition = network.workload, cooled(session, self.measuring)

        def sample(name: str, timing: Timing, digest: str = workload.digest) -> Sample:
            return Sample(process, process, name, timing, condition, digest)

        yield sample(SENTINEL, self._gate.wait(session), self.sentinel.digest)
        trace = trace_model(session, workload, _TIMES)
        for position, ms in sorted(by_kernel(network.graph.kernels, trace.nodes).items()):
            if ms >= LEAST_MS:
                key = network.graph.kernels[position].op.key
                yield sample(f"{workload.name}/{position}/{key}", Timing((ms,), trace.runs))
        yield sample(workload.name, trace.whole)

    def _report(self, doing: str) -> None:
        self.on_progress(Progress(len(self._done), _SESSIONS * self.count, doing))


@dataclass
class IdleGate:
    """Waits until the sentinel runs about as fast as at its fastest."""

    sentinel: Workload
    sleep: Callable[[float], None] = time.sleep
    on_wait: Callable[[], None] = lambda: None
    fastest_ms: float = math.inf
    waits: int = 0

    def wait(self, session: RetryingSession) -> Timing:
        """Wait; returns the sentinel's last timing."""
        while True:
            timing = session.sample(self.sentinel, _SENTINEL_MS, None)
            ms = float(np.median(timing.ms))
            self.fastest_ms = min(self.fastest_ms, ms)
            if ms <= _SLOWER * self.fastest_ms or self.waits == _MOST_WAITS:
                return timing
            self.waits += 1
            self.on_wait()
            self.sleep(_WAIT_S)


def _cross_validated(
    table: LatencyTable, networks: Sequence[RandomNetwork], first: int, samples: Sequence[Sample]
) -> Validation:
    """The error of the first networks that the runtime could run, each predicted without its
    fold."""
    levels = network_ms(samples)
    known = [network for network in networks[:first] if network.graph.name in levels]
    if len(known) < 2 or not table.rows:
        raise DeviceError("too few of the random networks could be run for a table of kernels")
    predicted, actual = [], []
    for fold in range(min(_FOLDS, len(known))):
        unseen = known[fold::_FOLDS]
        others = [network for network in networks if network not in unseen]
        operators = [op for network in unseen for op in operators_of(network.graph)]
        rest = kernel_table(table.setting, others, samples)
        model = fit(rest, extrapolate=True, operators=operators)
        predicted += [model.predict(network.graph).ms for network in unseen]
        actual += [levels[network.graph.name] for network in unseen]
    return validate(predicted, actual)
