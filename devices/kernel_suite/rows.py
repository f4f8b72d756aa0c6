"""Rows of a table of kernels, from the times of networks and of the kernels inside them.

A sample is of a whole network (by its name), of one kernel inside it ("network/position/key"), or
of the sentinel: a network that is timed next to every other one and shows the device's speed.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from devices.kernel_suite.random_cnns import RandomNetwork
from devices.measuring.record import Sample
from latency.graphs.kernels import Kernel
from latency.operators.spec import OpSpec
from latency.stats import student_t
from latency.tables.measurement import Measurement, Origin
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable

SENTINEL = "sentinel"
_FILE_NAME = re.compile(r"[A-Za-z]+_\d+")
"""Names of nodes as `devices.export.graph_writer` writes them."""
_INSERTED = {"Reorder": "reorder", "Gelu": "activation"}
"""Prefix of the nodes that the runtime inserts, and the kind of kernel they belong to."""


def by_kernel(kernels: Sequence[Kernel], nodes: Mapping[str, float]) -> dict[int, float]:
    """ms of each kernel, by position, from the ms of executed nodes.

    The name of a node contains a name of the file. Nodes that the runtime inserted go to the
    kernels of their kind: changes of layout to all of them by their bytes, others one by one.
    Other nodes, and those of a kind without kernels, go to the kernel before them.
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


def is_whole(sample: Sample) -> bool:
    """Whether the sample is of a whole network, not of a kernel or the sentinel."""
    return "/" not in sample.workload and sample.workload != SENTINEL


def network_ms(samples: Sequence[Sample]) -> dict[str, float]:
    """ms of each whole network: the median over its processes, drift-corrected by the sentinel."""
    usual = float(np.median([sample.ms for sample in samples if sample.workload == SENTINEL]))
    found: dict[str, list[float]] = {}
    now = usual
    for sample in samples:
        if sample.workload == SENTINEL:
            now = sample.ms
        elif is_whole(sample):
            found.setdefault(sample.workload, []).append(sample.ms * usual / now)
    return {name: float(np.median(times)) for name, times in found.items()}


def kernel_table(
    setting: Setting, networks: Sequence[RandomNetwork], samples: Sequence[Sample]
) -> LatencyTable:
    """The table of the kernels of the networks that could be run.

    A kernel's share of its network's time varies less between processes than its time: the share is
    scaled by the network's median over all processes.
    """
    levels = network_ms(samples)
    names = {network.graph.name for network in networks}
    wholes = {(b.session, b.workload): b.ms for b in samples if is_whole(b)}
    times: dict[OpSpec, dict[int, list[float]]] = {}
    runs: dict[OpSpec, int] = {}
    for sample in samples:
        name, _, rest = sample.workload.partition("/")
        if not rest or name not in names or (sample.session, name) not in wholes:
            continue
        op = OpSpec.parse(rest.partition("/")[2])
        ms = sample.ms * levels[name] / wholes[sample.session, name]
        times.setdefault(op, {}).setdefault(sample.session, []).append(ms)
        runs[op] = runs.get(op, 0) + sample.timing.runs
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = {op: _row(list(by.values()), runs[op], stamp) for op, by in times.items()}
    return LatencyTable(setting, rows)


def _row(processes: Sequence[Sequence[float]], runs: int, measured_at: str) -> Measurement:
    """A kernel's row, from its times in ms in each process; with one process, the half interval is
    the median."""
    medians = [float(np.median(times)) for times in processes]
    median, count = float(np.median(medians)), len(medians)
    half = median
    if count > 1:
        half = student_t(count - 1) * float(np.std(medians, ddof=1)) / count**0.5
    return Measurement(
        median,
        half,
        runs,
        min(map(min, processes)),
        measured_at,
        count,
        traced_ms=median,
        origin=Origin.INSIDE_NETWORKS,
    )
