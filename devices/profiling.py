"""Measuring in rounds of bursts until every median is known well enough, and the table of it."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from devices.card import Measuring
from devices.device import Device, Sitting, Workload
from devices.journal import Journal
from latency.calibration import calibrate, validate
from latency.measurement import Measurement
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.table import LatencyTable

_MIN_RUNS, _MAX_RUNS = 3, 50


@dataclass(frozen=True)
class Progress:
    """How far a measurement has come: `done` of `total` workloads are known well enough,
    `rounds` rounds were made in `seconds`."""

    done: int
    total: int
    rounds: int
    seconds: float
    doing: str


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class StoppingRule:
    """When a workload has been measured enough."""

    measuring: Measuring

    def is_finished(self, workload: Workload, bursts_ms: Sequence[Sequence[float]]) -> bool:
        """Its interval is as narrow as asked, or the cap on bursts is reached."""
        if len(bursts_ms) >= self.measuring.max_bursts:
            return True
        if len(bursts_ms) < self.measuring.min_bursts:
            return False
        asked = self.measuring.ci95 if len(workload.ops) == 1 else self.measuring.network_ci95
        return Measurement.from_bursts(bursts_ms).relative_ci95 <= asked

    def is_due(self, workload: Workload, bursts_ms: Sequence[Sequence[float]], turn: int) -> bool:
        """Whether the workload wants another burst in the sitting `turn` (0-based). The least
        number of bursts is spread evenly over the sittings; the last one goes on to the end."""
        if turn == self.measuring.sittings - 1:
            return not self.is_finished(workload, bursts_ms)
        share = self.measuring.min_bursts / self.measuring.sittings
        return len(bursts_ms) < share * (turn + 1)


def measure(
    device: Device,
    workloads: Sequence[Workload],
    measuring: Measuring,
    journal: Journal | None = None,
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Measurement]:
    """Measure workloads in randomised rounds; name to `Measurement`.

    Each round runs one burst of every workload that is not finished, in random order, so that
    drift of a shared machine hits all alike. Every burst is journaled as it ends, and what the
    journal already holds counts; without a journal, nothing is kept. Ends when all are
    finished, or when `measuring.seconds` have passed (each has at least `min_bursts` by then).
    """
    rule = StoppingRule(measuring)
    known = journal.bursts if journal else {}
    bursts = {workload.name: list(known.get(workload.name, [])) for workload in workloads}
    finished = {w.name for w in workloads if rule.is_finished(w, bursts[w.name])}
    generator = np.random.default_rng(seed)
    start, rounds = clock(), 0

    def report(doing: str) -> None:
        on_progress(Progress(len(finished), len(bursts), rounds, clock() - start, doing))

    for turn in range(measuring.sittings):
        due = [w for w in workloads if rule.is_due(w, bursts[w.name], turn)]
        if not due:
            continue
        with device.sit() as sitting:
            handles = {}
            for workload in due:
                handles[workload.name] = sitting.load(workload)
                report("loading models")
            while due:
                for position in generator.permutation(len(due)):
                    workload = due[position]
                    name = workload.name
                    bursts[name].append(_burst(sitting, handles[name], measuring.burst_ms))
                    if journal:
                        journal.append(name, bursts[name][-1])
                    if rule.is_finished(workload, bursts[name]):
                        finished.add(name)
                    report("measuring")
                rounds += 1
                late = clock() - start > measuring.seconds
                due = [
                    w
                    for w in due
                    if rule.is_due(w, bursts[w.name], turn)
                    and not (late and len(bursts[w.name]) >= measuring.min_bursts)
                ]
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {name: Measurement.from_bursts(taken, stamp) for name, taken in bursts.items()}


def _burst(sitting: Sitting, handle: int, burst_ms: float) -> list[float]:
    """Bring the model back into the caches, then run it for about `burst_ms`."""
    first_ms = sitting.run(handle, 0, 1)[0]
    runs = int(np.clip(burst_ms / first_ms, _MIN_RUNS, _MAX_RUNS))
    return list(sitting.run(handle, 0 if first_ms > burst_ms else 1, runs))


def profile(
    device: Device,
    operators: Iterable[OpSpec],
    calibration: Sequence[NetworkSpec],
    held_out: Sequence[NetworkSpec],
    space: str,
    measuring: Measuring,
    journal: Journal,
    circumstances: Mapping[str, str],
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
) -> LatencyTable:
    """Measure operators and whole networks of a space on a device; the table of them.

    `calibration` networks bring the sum of operators to that of networks; the `held_out` ones,
    never fitted on, give the error that the table states of itself for this `space`.
    """
    ops = list(dict.fromkeys(operators))
    workloads = [Workload.of_op(op) for op in ops]
    workloads += [Workload.of_network(network) for network in (*calibration, *held_out)]
    measured = measure(device, workloads, measuring, journal, on_progress, seed)
    rows = {op: measured[op.key] for op in ops}
    calibrated = calibrate(
        {op: row.median_ms for op, row in rows.items()},
        [(network, measured[network.name].median_ms) for network in calibration],
    )
    in_network_ms = {op: calibrated.in_network_ms(op, row.median_ms) for op, row in rows.items()}
    predicted = [sum(in_network_ms[op] for op in network.ops) for network in held_out]
    actual = [measured[network.name].median_ms for network in held_out]
    return LatencyTable(
        device.setting,
        rows,
        in_network_ms,
        {space: calibrated},
        {space: validate(predicted, actual)} if held_out else {},
        circumstances,
    )
