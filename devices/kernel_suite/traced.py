"""Kernels of CNNs traced inside random networks, by the runtime's profiler.

Networks are timed as wholes and traced; each kernel that the runtime executes becomes a row. The
table's error is found by cross-validation over the networks.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

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
    circumstances: Mapping[str, str],
    on_progress: OnProgress,
    count: int,
) -> LatencyTable:
    """The table of the kernels of `count` random networks. The first are drawn evenly, and give the
    table's error by cross-validation; the rest have the highest expected error. `measuring` sets
    the cooling. Raises `DeviceError` where the device fails."""
    first = math.ceil(_EVEN * count)
    batch = device.setting.batch
    networks = draw_networks(first, fusion, batch=batch)
    rounds = _Tracing(
        device, measuring, journal, on_progress, _sentinel(networks), _SESSIONS * count
    )
    samples = rounds.trace(networks)
    if count > first:
        table = kernel_table(device.setting, networks, samples)
        drawn = draw_networks(_CANDIDATES * (count - first), fusion, first, batch)
        errors = expected_errors(table, [network.graph for network in drawn])
        order = np.argsort([-sum(each.values()) for each in errors], kind="stable")
        networks += [drawn[i] for i in order[: count - first]]
        samples = rounds.trace(networks)
    table = kernel_table(device.setting, networks, samples)
    conditions = [*(sample.condition for sample in samples), rounds.at_last]
    how = (
        f"{len(table)} kernels inside {len(networks)} random networks, by the runtime's "
        f"profiler, in {_SESSIONS} processes; "
        + "; ".join(f"{name}: {value}" for name, value in readings(conditions).items())
    )
    return replace(
        table,
        validations={SUITE: _cross_validated(table, networks, first, samples)},
        circumstances=circumstances,
        measured={SUITE: how},
        fusion=fusion,
    )


class _Tracing:
    """Traces networks in a few processes each, with a sentinel before each network.

    In each process every network is timed without the profiler and then traced; its kernels are
    scaled to add up to it. The idle gate waits while the sentinel shows a busy device. Networks in
    the journal are not measured again; those that the runtime cannot run are left out.
    """

    def __init__(
        self,
        device: Device,
        measuring: Measuring,
        journal: Keeper,
        on_progress: OnProgress,
        sentinel: Workload,
        total: int,
    ) -> None:
        self._device, self._measuring = device, measuring
        self._journal, self._on_progress = journal, on_progress
        self._sentinel = sentinel
        self._gate = IdleGate(sentinel, on_wait=lambda: self._tell("waiting for an idle device"))
        self._total = total
        self.at_last = Condition()
        self._done = {(b.session, b.digest) for b in journal.samples if is_whole(b)}
        self._generator = np.random.default_rng(0)

    def trace(self, networks: Sequence[RandomNetwork]) -> list[Sample]:
        """Samples of the kernels inside networks, of each whole network, and of the sentinel, up to
        the last of these networks: later samples of an interrupted run have no influence."""
        for number in range(_SESSIONS):
            order = [networks[i] for i in self._generator.permutation(len(networks))]
            todo = [n for n in order if (number, n.workload.digest) not in self._done]
            if not todo:
                continue
            with RetryingSession(self._device, first=number) as session:
                for network in todo:
                    condition = cooled(session, self._measuring)
                    with suppress(WorkloadError):
                        for sample in _trace(session, network, self._gate, number):
                            self._keep(replace(sample, condition=condition), network.workload)
                    self._done.add((number, network.workload.digest))
                    self._tell("tracing random networks")
                self.at_last = session.condition()
        names = {network.graph.name for network in networks}
        digests = {network.workload.digest for network in networks} | {self._sentinel.digest}
        samples = [sample for sample in self._journal.samples if sample.digest in digests]
        last = max((i for i, sample in enumerate(samples) if sample.workload in names), default=-1)
        return samples[: last + 1]

    def _keep(self, sample: Sample, network: Workload) -> None:
        """Journal a sample of a network or of the sentinel."""
        ran = self._sentinel if sample.workload == SENTINEL else network
        self._journal.append(replace(sample, digest=ran.digest))

    def _tell(self, doing: str) -> None:
        self._on_progress(Progress(len(self._done), self._total, doing))


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
        known_table = kernel_table(table.setting, others, samples)
        operators = [op for network in unseen for op in operators_of(network.graph)]
        model = fit(known_table, extrapolate=True, operators=operators)
        predicted += [model.predict(network.graph).ms for network in unseen]
        actual += [levels[network.graph.name] for network in unseen]
    return validate(predicted, actual)


def _sentinel(networks: Sequence[RandomNetwork]) -> Workload:
    """The network that shows the device's present speed: one of moderate size."""
    ordered = sorted(networks, key=lambda network: (network.graph.macs, network.graph.name))
    chosen = ordered[len(ordered) // 4].workload
    return replace(chosen, name=SENTINEL)


class IdleGate:
    """Waits until the sentinel runs about as fast as at its fastest."""

    def __init__(
        self,
        sentinel: Workload,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._sentinel, self._sleep, self._on_wait = sentinel, sleep, on_wait
        self._fastest = math.inf
        self._waits = _MOST_WAITS

    def wait(self, session: RetryingSession) -> Timing:
        """Wait; returns the sentinel's last timing."""
        while True:
            timing = session.sample(self._sentinel, _SENTINEL_MS, None)
            ms = float(np.median(timing.ms))
            self._fastest = min(self._fastest, ms)
            if ms <= _SLOWER * self._fastest or self._waits == 0:
                return timing
            self._waits -= 1
            self._on_wait()
            self._sleep(_WAIT_S)


def _trace(
    session: RetryingSession, network: RandomNetwork, gate: IdleGate, number: int
) -> Iterator[Sample]:
    """Samples of the sentinel, of the kernels, and last of the whole network."""
    workload = network.workload
    yield Sample(number, number, SENTINEL, gate.wait(session))
    trace = trace_model(session, workload, _TIMES)
    for position, ms in sorted(by_kernel(network.graph.kernels, trace.nodes).items()):
        if ms >= LEAST_MS:
            key = network.graph.kernels[position].op.key
            name = f"{workload.name}/{position}/{key}"
            yield Sample(number, number, name, Timing((ms,), trace.runs))
    yield Sample(number, number, workload.name, trace.whole)
