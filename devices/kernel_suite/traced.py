"""What the kernels of CNNs take inside random networks, by the runtime's own profiler.

Networks are timed as wholes and traced; each kernel that the runtime executes becomes a row. What
the table states of itself is found by cross-validation: the error of a network predicted from
networks of which it is none.
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
from devices.measuring.record import Burst
from devices.measuring.rounds import Keeper, OnProgress, Progress, cooled, last_condition, span
from devices.measuring.sessions import PatientSitting
from devices.measuring.tracing import TraceTimes, trace_model
from latency.errors import DeviceError, WorkloadError
from latency.graphs.fusion import SUITE, Fusion
from latency.predictors.regression import fit, operators_of
from latency.tables.calibration import Validation, validate
from latency.tables.table import LatencyTable
from latency.units import LEAST_MS

_SITTINGS = 3
"""Processes in which each network is traced: what differs between them is in the interval."""
_SENTINEL_MS = 60.0
_SLOWER, _WAIT_S, _MOST_WAITS = 1.06, 2.0, 150
"""A device that is slower than at its fastest by this factor is waited for, for five minutes in
all."""
_TIMES = TraceTimes(traced_ms=250.0, whole_ms=120.0, runs=(6, 40), warm_up=3)
_EVEN, _CANDIDATES = 0.6, 2
"""The share of the networks that are drawn evenly, and from how many times as many as are needed
the others are chosen."""
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
    """The table of the kernels of `count` random networks. The first are drawn evenly, and say by
    cross-validation how far it is off; the rest are chosen where the others leave most to be wrong.
    `measuring` says how cool the device is to be. Raises `DeviceError` where the device fails."""
    first = math.ceil(_EVEN * count)
    batch = device.setting.batch
    networks = draw_networks(first, fusion, batch=batch)
    rounds = _Tracing(
        device, measuring, journal, on_progress, _sentinel(networks), _SITTINGS * count
    )
    bursts = rounds.trace(networks)
    if count > first:
        table = kernel_table(device.setting, networks, bursts)
        drawn = draw_networks(_CANDIDATES * (count - first), fusion, first, batch)
        errors = expected_errors(table, [network.graph for network in drawn])
        order = np.argsort([-sum(each.values()) for each in errors], kind="stable")
        networks += [drawn[i] for i in order[: count - first]]
        bursts = rounds.trace(networks)
    table = kernel_table(device.setting, networks, bursts)
    conditions = [*(burst.condition for burst in bursts), rounds.at_last]
    how = (
        f"{len(table)} kernels inside {len(networks)} random networks, by the runtime's "
        f"profiler, in {_SITTINGS} processes; temperature: "
        f"{span([c.temperature_c for c in conditions], '°C')}; frequency: "
        f"{span([c.frequency_mhz for c in conditions], 'MHz')}"
    )
    return replace(
        table,
        validations={SUITE: _cross_validated(table, networks, first, bursts)},
        circumstances=circumstances,
        measured={SUITE: how},
        fusion=fusion,
    )


class _Tracing:
    """Traces networks in a few processes each, beside a sentinel.

    In each process every network is timed unprofiled and then traced; its kernels are scaled to
    add up to it. Where the sentinel tells that the device is slower than it was (a shared machine's
    other users), it is waited for, within limits. What is in the journal is not measured again. A
    network that the runtime cannot run is left out.
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
        self._quiet = Quiet(sentinel, on_wait=lambda: self._tell("waiting for a device at rest"))
        self._total = total
        self.at_last = Condition()
        self._done = {(b.sitting, b.digest) for b in journal.bursts if is_whole(b)}
        self._generator = np.random.default_rng(0)

    def trace(self, networks: Sequence[RandomNetwork]) -> list[Burst]:
        """Bursts of all kernels of networks as they run inside them, of each whole network, and of
        the sentinel, up to the last of these networks: what a run that was broken off had measured
        beyond them does not change what follows from them."""
        for sitting in range(_SITTINGS):
            order = [networks[i] for i in self._generator.permutation(len(networks))]
            todo = [n for n in order if (sitting, n.workload.digest) not in self._done]
            if not todo:
                continue
            with PatientSitting(self._device, first=sitting) as patient:
                for network in todo:
                    condition = cooled(patient, self._measuring)
                    with suppress(WorkloadError):
                        for burst in _trace(patient, network, self._quiet, sitting):
                            self._keep(replace(burst, condition=condition), network.workload)
                    self._done.add((sitting, network.workload.digest))
                    self._tell("tracing random networks")
                self.at_last = last_condition(patient)
        names = {network.graph.name for network in networks}
        digests = {network.workload.digest for network in networks} | {self._sentinel.digest}
        bursts = [burst for burst in self._journal.bursts if burst.digest in digests]
        last = max((i for i, burst in enumerate(bursts) if burst.workload in names), default=-1)
        return bursts[: last + 1]

    def _keep(self, burst: Burst, network: Workload) -> None:
        """Journal a burst of a network, or of the sentinel beside it."""
        ran = self._sentinel if burst.workload == SENTINEL else network
        self._journal.append(replace(burst, digest=ran.digest))

    def _tell(self, doing: str) -> None:
        self._on_progress(Progress(len(self._done), self._total, doing))


def _cross_validated(
    table: LatencyTable, networks: Sequence[RandomNetwork], first: int, bursts: Sequence[Burst]
) -> Validation:
    """How far the first networks are off that the runtime could run, each predicted by the table
    of the others without its fold."""
    levels = network_ms(bursts)
    known = [network for network in networks[:first] if network.graph.name in levels]
    if len(known) < 2 or not table.rows:
        raise DeviceError("too few of the random networks could be run for a table of kernels")
    predicted, actual = [], []
    for fold in range(min(_FOLDS, len(known))):
        unseen = known[fold::_FOLDS]
        others = [network for network in networks if network not in unseen]
        known_table = kernel_table(table.setting, others, bursts)
        operators = [op for network in unseen for op in operators_of(network.graph)]
        model = fit(known_table, extrapolate=True, operators=operators)
        predicted += [model.predict(network.graph).ms for network in unseen]
        actual += [levels[network.graph.name] for network in unseen]
    return validate(predicted, actual)


def _sentinel(networks: Sequence[RandomNetwork]) -> Workload:
    """The network that tells, time and again, how fast the device is just now: one of moderate
    size."""
    ordered = sorted(networks, key=lambda network: (network.graph.macs, network.graph.name))
    chosen = ordered[len(ordered) // 4].workload
    return replace(chosen, name=SENTINEL)


class Quiet:
    """Waits until the device is about as fast as it was at its fastest, by the sentinel."""

    def __init__(
        self,
        sentinel: Workload,
        sleep: Callable[[float], None] = time.sleep,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        self._sentinel, self._sleep, self._on_wait = sentinel, sleep, on_wait
        self._fastest = math.inf
        self._waits = _MOST_WAITS

    def wait(self, patient: PatientSitting) -> Timing:
        """What the sentinel took at last."""
        while True:
            timing = patient.burst(self._sentinel, _SENTINEL_MS, None)
            ms = float(np.median(timing.ms))
            self._fastest = min(self._fastest, ms)
            if ms <= _SLOWER * self._fastest or self._waits == 0:
                return timing
            self._waits -= 1
            self._on_wait()
            self._sleep(_WAIT_S)


def _trace(
    patient: PatientSitting, network: RandomNetwork, quiet: Quiet, sitting: int
) -> Iterator[Burst]:
    """The sentinel, the kernels of a network, and last the whole, which says that all are there."""
    workload = network.workload
    yield Burst(sitting, sitting, SENTINEL, quiet.wait(patient))
    trace = trace_model(patient, workload, _TIMES)
    for position, ms in sorted(by_kernel(network.graph.kernels, trace.nodes).items()):
        if ms >= LEAST_MS:
            key = network.graph.kernels[position].op.key
            name = f"{workload.name}/{position}/{key}"
            yield Burst(sitting, sitting, name, Timing((ms,), trace.runs))
    yield Burst(sitting, sitting, workload.name, trace.whole)
