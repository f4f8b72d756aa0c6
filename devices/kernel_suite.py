"""The kernel suite: what the kernels of CNNs take, measured inside random networks.

Networks are drawn, timed as wholes, and traced by the runtime's own profiler; each kernel that
the runtime executes becomes a row. Some networks are held out: the error of their prediction
from all others is what the table states of itself.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from devices.card import Measuring
from devices.device import Device, Timing, Workload, tracer
from devices.drift import Burst
from devices.fusion import measure_fusion
from devices.measuring import Keeper, OnProgress, Progress, measure
from devices.patience import PatientSitting
from devices.random_cnns import random_cnn
from devices.tracing import unprofiled
from latency.calibration import validate
from latency.errors import DeviceError, WorkloadError
from latency.features import kernel_family
from latency.formats import Setting
from latency.kernels import FUSION, SUITE, Fusion, Kernel, KernelGraph, kernels_of
from latency.measurement import INSIDE_NETWORKS, Measurement
from latency.onnx_graph import parse_graph
from latency.ops import OpSpec
from latency.regression import fit
from latency.stats import student_t
from latency.table import LatencyTable

NETWORKS, HELD_OUT = 96, 12
"""Random networks, and how many of them are held out."""
SUITE_NOTE = INSIDE_NETWORKS
"""What rows say that were measured so."""
_SITTINGS = 3
"""Processes in which each network is traced: what differs between them is in the interval."""
_WARM_UP = 3
_SENTINEL, _SENTINEL_MS = "sentinel", 60.0
_SLOWER, _WAIT_S, _MOST_WAITS = 1.06, 2.0, 150
"""A device that is slower than at its fastest by this factor is waited for, for five minutes in
all."""
_WHOLE_MS, _TRACED_MS, _RUNS = 120.0, 250.0, (6, 40)
"""For so long a network is timed, and traced, in each process, within the bounds on the number of
traced runs."""
_ALONE = 40
"""Kernels of a family that are measured alone, where networks cannot be traced."""
_FILE_NAME = re.compile(r"[A-Za-z]+_\d+")
"""Names of nodes as `devices.cnn_writer` writes them."""
_INSERTED = {"Reorder": "reorder", "Gelu": "activation"}
"""What the runtime's own names of nodes begin with, and the kind of kernel that they are."""


@dataclass(frozen=True)
class RandomNetwork:
    """A random network: its file, and the kernels that the runtime makes of it."""

    model: bytes
    graph: KernelGraph

    @property
    def workload(self) -> Workload:
        return Workload(self.graph.name, self.graph.ops, self.model)


def draw_networks(count: int, fusion: Fusion, first: int = 0) -> list[RandomNetwork]:
    """Random networks from seed `first` on."""
    drawn = []
    for seed in range(first, first + count):
        model = random_cnn(seed)
        drawn.append(RandomNetwork(model, kernels_of(parse_graph(model, f"random-{seed}"), fusion)))
    return drawn


def profile_kernels(
    device: Device,
    measuring: Measuring,
    journal: Keeper | None = None,
    circumstances: Mapping[str, str] | None = None,
    on_progress: OnProgress = lambda progress: None,
    networks: int = NETWORKS,
    held_out: int = HELD_OUT,
) -> LatencyTable:
    """The table of the kernels of CNNs on a device, with the fusion rules of its runtime.

    Where the runtime has no profiler of ONNX files, kernels are measured alone, by `measuring`,
    and nothing is held out. Raises `DeviceError` where the device fails.
    """
    fusion = measure_fusion(device)
    drawn = draw_networks(networks, fusion)
    if can_trace(device):
        bursts = trace_networks(device, drawn, journal, on_progress)
        return table_of(device.setting, drawn, bursts, fusion, circumstances or {}, held_out)
    ops = alone(drawn)
    measured = measure(device, [Workload.of_op(op) for op in ops], measuring, journal, on_progress)
    rows = {op: measured.rows[op.key] for op in ops if op.key in measured.rows}
    if not rows:
        raise DeviceError(f"no kernel could be measured on {device.label}")
    said = {**(circumstances or {}), FUSION: str(fusion)}
    said[f"measured {SUITE}"] = f"{len(rows)} kernels, each alone"
    return LatencyTable(device.setting, rows, circumstances=said)


def can_trace(device: Device) -> bool:
    """Whether the device's runtime tells what it executes of ONNX files."""
    if device.suffix != ".onnx":
        return False
    with device.sit() as sitting:
        return tracer(sitting) is not None


def alone(networks: Sequence[RandomNetwork]) -> list[OpSpec]:
    """Different kernels of networks, to be measured alone: those of each family evenly, so many
    that a small device measures them within minutes."""
    families: dict[str, list[OpSpec]] = {}
    for op in dict.fromkeys(op for network in networks for op in network.graph.ops):
        if op.kind != "reorder":
            families.setdefault(kernel_family(op), []).append(op)
    return [op for ops in families.values() for op in ops[:: max(1, len(ops) // _ALONE)][:_ALONE]]


def trace_networks(
    device: Device,
    networks: Sequence[RandomNetwork],
    journal: Keeper | None = None,
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Burst]:
    """Bursts of all kernels of networks as they run inside them, and of each whole network.

    In each of a few processes every network is timed unprofiled and then traced; its kernels are
    scaled to add up to it. Where the sentinel tells that the device is slower than it was (a shared
    machine's other users), it is waited for, within limits. What is in the journal is not measured
    again. A network that the runtime cannot run is left out. Raises `DeviceError` where the device
    fails.
    """
    bursts = list(journal.bursts) if journal is not None else []
    done = {(burst.sitting, burst.workload) for burst in bursts}
    generator = np.random.default_rng(seed)
    total = _SITTINGS * len(networks)
    quiet = _Quiet(_sentinel(networks), sleep)
    for sitting in range(_SITTINGS):
        order = [networks[i] for i in generator.permutation(len(networks))]
        todo = [n for n in order if (sitting, n.graph.name) not in done]
        if not todo:
            continue
        with PatientSitting(device, first=sitting) as patient:
            for network in todo:
                with suppress(WorkloadError):
                    for burst in _trace(patient, network, quiet, sitting):
                        bursts.append(burst)
                        if journal is not None:
                            journal.append(burst)
                done.add((sitting, network.graph.name))
                on_progress(Progress(len(done), total, "tracing random networks"))
    return bursts


def table_of(
    setting: Setting,
    networks: Sequence[RandomNetwork],
    bursts: Sequence[Burst],
    fusion: Fusion,
    circumstances: Mapping[str, str],
    held_out: int = HELD_OUT,
) -> LatencyTable:
    """The table of traced networks; the last `held_out` of them validate it."""
    levels = _levels(bursts)
    known = [network for network in networks if network.graph.name in levels]
    if len(known) <= held_out:
        raise DeviceError("too few of the random networks could be run for a table of kernels")
    fitted_on, unseen = known[:-held_out], known[-held_out:]
    rows = _rows(fitted_on, bursts, levels)
    table = LatencyTable(
        setting,
        rows,
        circumstances={
            **circumstances,
            FUSION: str(fusion),
            f"measured {SUITE}": f"{len(rows)} kernels inside {len(fitted_on)} random networks, "
            f"by the runtime's profiler, in {_SITTINGS} processes",
        },
    )
    model = fit(table, extrapolate=True)
    predicted = [model.predict(network.graph).ms for network in unseen]
    actual = [levels[network.graph.name] for network in unseen]
    return replace(table, validations={SUITE: validate(predicted, actual)})


def _sentinel(networks: Sequence[RandomNetwork]) -> Workload:
    """The network that tells, time and again, how fast the device is just now: one of moderate
    size."""
    ordered = sorted(networks, key=lambda network: (network.graph.macs, network.graph.name))
    chosen = ordered[len(ordered) // 4].workload
    return replace(chosen, name=_SENTINEL)


class _Quiet:
    """Waits until the device is about as fast as it was at its fastest, by the sentinel."""

    def __init__(self, sentinel: Workload, sleep: Callable[[float], None]) -> None:
        self._sentinel, self._sleep = sentinel, sleep
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
            self._sleep(_WAIT_S)


def _trace(
    patient: PatientSitting, network: RandomNetwork, quiet: _Quiet, sitting: int
) -> Iterator[Burst]:
    """The sentinel, the kernels of a network, and last the whole, which says that all are there."""
    workload = network.workload
    yield Burst(sitting, sitting, _SENTINEL, quiet.wait(patient))
    before = patient.burst(workload, _WHOLE_MS, None)
    runs = int(np.clip(_TRACED_MS / float(np.median(before.ms)), *_RUNS))
    nodes = patient.trace(workload, _WARM_UP, runs)
    after = patient.burst(workload, _WHOLE_MS, float(np.median(before.ms)))
    whole = Timing(before.ms + after.ms, before.runs + after.runs)
    whole_ms = float(np.median(whole.ms))
    if not nodes:
        raise DeviceError(f"{workload.name}: the runtime tells nothing of its nodes")
    nodes = unprofiled(nodes, whole_ms)
    for position, ms in sorted(by_kernel(network.graph.kernels, nodes).items()):
        if ms > 0:
            key = network.graph.kernels[position].op.key
            yield Burst(sitting, sitting, f"{workload.name}/{position}/{key}", Timing((ms,), runs))
    yield Burst(sitting, sitting, workload.name, whole)


def by_kernel(kernels: Sequence[Kernel], nodes: Mapping[str, float]) -> dict[int, float]:
    """Position of a kernel -> ms of it, of the ms of the nodes that a runtime executed.

    Nodes have the names of the file's, with words of the runtime's own around them. What the
    runtime inserted goes to the kernels of its kind: changes of layout to all of them by their
    bytes, others one by one; and what is of no kind, or of one without kernels, to the kernel
    before it.
    """
    position_of = {name: i for i, kernel in enumerate(kernels) for name in kernel.nodes}
    found: dict[int, float] = {}
    inserted: dict[str, list[tuple[int, float]]] = {}
    last = 0
    for name, ms in nodes.items():
        own = (position_of[part] for part in _FILE_NAME.findall(name) if part in position_of)
        position = next(own, None)
        begin = next((b for b in _INSERTED if name.startswith(b)), None)
        if position is None and begin is not None:
            inserted.setdefault(_INSERTED[begin], []).append((last, ms))
            continue
        last = last if position is None else position
        found[last] = found.get(last, 0.0) + ms
    for kind, places in inserted.items():
        times = [ms for _, ms in places]
        open_ = [i for i, k in enumerate(kernels) if k.op.kind == kind and i not in found]
        if len(open_) == len(times) and kind != "reorder":
            found |= dict(zip(open_, times, strict=True))
        elif open_:
            sizes = np.array([kernels[i].op.border_bytes for i in open_], float)
            shares = sum(times) * sizes / sizes.sum()
            found |= dict(zip(open_, shares.tolist(), strict=True))
        else:
            for before, ms in places:
                found[before] = found.get(before, 0.0) + ms
    return found


def _levels(bursts: Sequence[Burst]) -> dict[str, float]:
    """ms of each whole network: the median of its processes, at the device's usual speed. The
    sentinel beside it tells how fast the device was meanwhile."""
    usual = float(np.median([burst.ms for burst in bursts if burst.workload == _SENTINEL]))
    found: dict[str, list[float]] = {}
    now = usual
    for burst in bursts:
        if burst.workload == _SENTINEL:
            now = burst.ms
        elif "/" not in burst.workload:
            found.setdefault(burst.workload, []).append(burst.ms * usual / now)
    return {name: float(np.median(times)) for name, times in found.items()}


def _rows(
    networks: Sequence[RandomNetwork], bursts: Iterable[Burst], levels: Mapping[str, float]
) -> dict[OpSpec, Measurement]:
    """A row for each kernel. Its share of a process's whole network is steadier than its time:
    the share is brought to the level of the network over all processes."""
    names = {network.graph.name for network in networks}
    bursts = list(bursts)
    wholes = {(b.sitting, b.workload): b.ms for b in bursts if "/" not in b.workload}
    samples: dict[OpSpec, dict[int, list[float]]] = {}
    runs: dict[OpSpec, int] = {}
    for burst in bursts:
        name, _, rest = burst.workload.partition("/")
        if not rest or name not in names or (burst.sitting, name) not in wholes:
            continue
        op = OpSpec.parse(rest.partition("/")[2])
        ms = burst.ms * levels[name] / wholes[burst.sitting, name]
        samples.setdefault(op, {}).setdefault(burst.sitting, []).append(ms)
        runs[op] = runs.get(op, 0) + burst.timing.runs
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = {}
    for op, by_sitting in samples.items():
        middles = [float(np.median(times)) for times in by_sitting.values()]
        middle = float(np.median(middles))
        count = len(middles)
        half = (
            student_t(count - 1) * float(np.std(middles, ddof=1)) / count**0.5
            if count > 1
            else middle
        )
        least = min(min(times) for times in by_sitting.values())
        rows[op] = Measurement(
            middle,
            half,
            runs[op],
            least,
            stamp,
            count,
            note=SUITE_NOTE,
            traced_ms=middle,
        )
    return rows
