"""Rows of a table of kernels, from the times of networks and of the kernels inside them.

A sample is of a whole network (by its name), of one kernel inside it ("network/position/key"), or
of the sentinel: a network that is timed next to every other one and shows the device's speed.
"""

import re
from collections import Counter
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
        known = [position_of[part] for part in _FILE_NAME.findall(name) if part in position_of]
        kinds = [kind for prefix, kind in _INSERTED.items() if name.startswith(prefix)]
        if kinds and not known:
            inserted.setdefault(kinds[0], []).append((last, ms))
        else:
            last = known[0] if known else last
            found[last] = found.get(last, 0.0) + ms
    for kind, parts in inserted.items():
        free = [i for i, k in enumerate(kernels) if k.op.kind == kind and i not in found]
        if len(free) == len(parts) and kind != "reorder":
            found |= {i: ms for i, (_, ms) in zip(free, parts, strict=True)}
        elif free:
            sizes = np.array([kernels[i].op.border_bytes for i in free], float)
            shares = sum(ms for _, ms in parts) * sizes / sizes.sum()
            found |= dict(zip(free, shares.tolist(), strict=True))
        else:
            for before, ms in parts:
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
    wholes = {(s.session, s.workload): s.ms for s in samples if is_whole(s)}
    times: dict[OpSpec, dict[int, list[float]]] = {}
    runs: Counter[OpSpec] = Counter()
    for sample in samples:
        name, _, rest = sample.workload.partition("/")
        if rest and name in names and (sample.session, name) in wholes:
            op = OpSpec.parse(rest.partition("/")[2])
            ms = sample.ms * levels[name] / wholes[sample.session, name]
            times.setdefault(op, {}).setdefault(sample.session, []).append(ms)
            runs[op] += sample.timing.runs
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = {op: _row(list(by.values()), runs[op], stamp) for op, by in times.items()}
    return LatencyTable(setting, rows)


def _row(processes: Sequence[Sequence[float]], runs: int, measured_at: str) -> Measurement:
    """A kernel's row, from its times in ms in each process; with one process, the half interval is
    the median."""
    medians = [float(np.median(times)) for times in processes]
    half = median = float(np.median(medians))
    count = len(medians)
    if count > 1:
        half = student_t(count - 1) * float(np.std(medians, ddof=1)) / count**0.5
    fastest, origin = min(map(min, processes)), Origin.INSIDE_NETWORKS
    return Measurement(
        median, half, runs, fastest, measured_at, count, traced_ms=median, origin=origin
    )
