"""Measuring in rounds of bursts until every median is known well enough, and the table of it."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from devices.card import Measuring
from devices.device import Device, Sitting, Workload
from devices.drift import LEAST_TOGETHER, Burst, Record
from latency.calibration import calibrate, validate
from latency.measurement import Measurement
from latency.network import NetworkSpec
from latency.ops import OpSpec
from latency.table import LatencyTable

_MIN_RUNS, _MAX_RUNS = 2, 50


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


class Keeper(Protocol):
    """Keeps bursts as they arrive, and has those that were kept before: a `Journal`, say."""

    bursts: list[Burst]

    def append(self, number: int, workload: str, ms: Sequence[float]) -> None:
        """Keep a burst of round `number`."""
        ...


_SENTINELS = 16
"""At least so many workloads of a kind are measured in each round, finished ones among them."""


def measure(
    device: Device,
    workloads: Sequence[Workload],
    measuring: Measuring,
    journal: Keeper | None = None,
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Measurement]:
    """Measure workloads in randomised rounds; name to `Measurement`.

    Each round runs one burst of every workload that is not known well enough, in random order,
    and of some others, whose changes from round to round tell the device's drift
    (`devices.drift`). Every burst is journaled as it ends, and what the journal already holds
    counts; without a journal, nothing is kept. Ends when every workload's interval is as narrow
    as asked, or at the caps on bursts and seconds.
    """
    generator = np.random.default_rng(seed)
    record = Record(workloads, journal.bursts if journal else ())
    start = clock()

    def report(doing: str) -> None:
        done = len(workloads) - len(record.unfinished(measuring))
        on_progress(Progress(done, len(workloads), record.rounds, clock() - start, doing))

    for turn in range(measuring.sittings):
        is_last = turn == measuring.sittings - 1
        share = math.ceil(measuring.min_bursts * (turn + 1) / measuring.sittings)
        due = record.unfinished(measuring) if is_last else record.below(share)
        if not due:
            continue
        if turn > 0:
            sleep(measuring.pause_seconds)
        with device.sit() as sitting:
            handles: dict[Workload, int] = {}
            while due:
                for workload in _with_sentinels(due, workloads, generator):
                    if workload not in handles:
                        handles[workload] = sitting.load(workload)
                    burst = _burst(sitting, handles[workload], measuring.burst_ms)
                    record.add(workload, burst)
                    if journal:
                        journal.append(record.rounds, workload.name, burst)
                record.end_round()
                report("measuring")
                if clock() - start > measuring.seconds:
                    due = record.below(share)
                else:
                    due = record.unfinished(measuring) if is_last else record.below(share)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {workload.name: record.measurement(workload, stamp) for workload in workloads}


def _with_sentinels(
    due: Sequence[Workload], workloads: Sequence[Workload], generator: np.random.Generator
) -> list[Workload]:
    """The due workloads, and finished ones of the same kind up to the number of sentinels."""
    chosen = list(due)
    for is_network in {workload.is_network for workload in due}:
        alike = [w for w in workloads if w.is_network == is_network]
        rest = [w for w in alike if w not in due]
        wanted = 0 if len(alike) < LEAST_TOGETHER else _SENTINELS - (len(alike) - len(rest))
        chosen += [rest[i] for i in generator.permutation(len(rest))[: max(0, wanted)]]
    return [chosen[i] for i in generator.permutation(len(chosen))]


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
    journal: Keeper | None,
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
