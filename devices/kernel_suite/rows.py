"""Rows of a table of kernels, from what networks and the kernels inside them took.

A burst is of a whole network (by its name), of one kernel inside it ("network/position/key"), or of
the sentinel, the network beside the others that tells how fast the device is meanwhile.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from devices.kernel_suite.random_cnns import RandomNetwork
from devices.measuring.record import Burst
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
"""What the runtime's own names of nodes begin with, and the kind of kernel that they are."""


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


def is_whole(burst: Burst) -> bool:
    """Whether it is of a whole network: no kernel's, and not the sentinel's."""
    return "/" not in burst.workload and burst.workload != SENTINEL


def network_ms(bursts: Sequence[Burst]) -> dict[str, float]:
    """ms of each whole network: the median of its processes, at the device's usual speed. The
    sentinel beside it tells how fast the device was meanwhile."""
    usual = float(np.median([burst.ms for burst in bursts if burst.workload == SENTINEL]))
    found: dict[str, list[float]] = {}
    now = usual
    for burst in bursts:
        if burst.workload == SENTINEL:
            now = burst.ms
        elif is_whole(burst):
            found.setdefault(burst.workload, []).append(burst.ms * usual / now)
    return {name: float(np.median(times)) for name, times in found.items()}


def kernel_table(
    setting: Setting, networks: Sequence[RandomNetwork], bursts: Sequence[Burst]
) -> LatencyTable:
    """The table of the kernels of those of these networks that could be run.

    A kernel's share of a process's whole network is steadier than its time: the share is brought to
    what the network takes over all processes.
    """
    levels = network_ms(bursts)
    names = {network.graph.name for network in networks}
    wholes = {(b.sitting, b.workload): b.ms for b in bursts if is_whole(b)}
    times: dict[OpSpec, dict[int, list[float]]] = {}
    runs: dict[OpSpec, int] = {}
    for burst in bursts:
        name, _, rest = burst.workload.partition("/")
        if not rest or name not in names or (burst.sitting, name) not in wholes:
            continue
        op = OpSpec.parse(rest.partition("/")[2])
        ms = burst.ms * levels[name] / wholes[burst.sitting, name]
        times.setdefault(op, {}).setdefault(burst.sitting, []).append(ms)
        runs[op] = runs.get(op, 0) + burst.timing.runs
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows = {op: _row(list(by.values()), runs[op], stamp) for op, by in times.items()}
    return LatencyTable(setting, rows)


def _row(processes: Sequence[Sequence[float]], runs: int, measured_at: str) -> Measurement:
    """A kernel's row by what it took, in ms, in each process; of one process, the interval is as
    wide as the median."""
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
