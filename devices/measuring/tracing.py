"""Tracing: the times of operators inside whole networks, by the runtime's profiler.

Unlike operators measured alone (`devices.measuring.rounds`), traced operators have the neighbours,
layouts and caches of the network, and add up to its time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from devices.device import Device, Timing, Workload
from devices.measuring.rounds import OnProgress, Progress
from devices.measuring.sessions import RetryingSession
from latency.errors import DeviceError, WorkloadError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.units import LEAST_MS

_FLOOR = 0.1
"""A corrected node keeps at least this share of its profiled time."""

_LEAST_SHARE = 0.05
"""Minimum sum of the nodes, as a share of the model's time; less is not a valid profile."""

_OUTPUT = "output"
"""Name of a model's output; a runtime names a fused last node by it."""
LayerKey = tuple[int, str]
"""The position of an operator in a network and the name of one of its layers."""


@dataclass(frozen=True)
class TraceTimes:
    """Durations: `traced_ms` with the profiler, within bounds on the number of `runs`, after
    `warm_up` runs; `whole_ms` without the profiler, before and after each trace."""

    traced_ms: float
    whole_ms: float
    runs: tuple[int, int]
    warm_up: int


@dataclass(frozen=True)
class Trace:
    """A traced model. `nodes`: ms of each node in order of execution, without the profiler's
    overhead; they add up to the median of `whole`, the runs without the profiler. `runs`: number of
    traced runs."""

    nodes: Mapping[str, float]
    whole: Timing
    runs: int


_TIMES = TraceTimes(traced_ms=500.0, whole_ms=250.0, runs=(8, 60), warm_up=5)


def trace_ops(
    device: Device,
    networks: Sequence[NetworkSpec],
    whole_ms: Mapping[str, float],
    on_progress: OnProgress = lambda progress: None,
) -> dict[OpSpec, float]:
    """ms of each operator inside networks: the median of all its occurrences.

    `whole_ms`: the time of each network without the profiler, by name; networks without a time are
    left out. The operators of a network add up to it, as in `trace_network`. {} where the device
    has no per-node profiler. Raises `DeviceError` where the device fails.
    """
    found: dict[OpSpec, list[float]] = {}
    known = [network for network in networks if network.name in whole_ms]
    with RetryingSession(device) as session:
        if not session.traces:
            return {}
        for done, network in enumerate(known):
            on_progress(Progress(done, len(known), "tracing"))
            operators: dict[int, float] = {}
            for (position, _), ms in trace_network(
                session, network, whole_ms[network.name]
            ).items():
                operators[position] = operators.get(position, 0.0) + ms
            for position, ms in operators.items():
                found.setdefault(network.ops[position], []).append(ms)
        on_progress(Progress(len(known), len(known), "tracing"))
    return {op: ms for op, times in found.items() if (ms := median(times)) >= LEAST_MS}


def trace_network(
    session: RetryingSession, network: NetworkSpec, whole_ms: float | None = None
) -> dict[LayerKey, float]:
    """ms of each layer while the whole network runs, in order of execution.

    A layer that is fused into another is missing; its time counts for the other. Nodes that the
    runtime inserts (changes of layout) count for the layer before them. The profiler's overhead per
    node is estimated from runs without the profiler and subtracted. The layers are scaled to
    add up to `whole_ms`, or to the runs without the profiler where it is None. Raises `DeviceError`
    where the device fails.
    """
    trace = trace_model(session, Workload.of_network(network), _TIMES)
    traced_ms = median(trace.whole.ms)
    scale = (whole_ms or traced_ms) / traced_ms
    return {layer: scale * ms for layer, ms in _by_layer(network, trace.nodes).items()}


def trace_model(session: RetryingSession, workload: Workload, times: TraceTimes) -> Trace:
    """Run a model without the profiler, with it, and without it again. Raises `WorkloadError` as
    `unprofiled`."""
    before = session.sample(workload, times.whole_ms, None)
    runs = int(np.clip(times.traced_ms / median(before.ms), *times.runs))
    nodes = session.trace(workload, times.warm_up, runs)
    after = session.sample(workload, times.whole_ms, median(before.ms))
    whole = Timing(before.ms + after.ms, before.runs + after.runs)
    return Trace(unprofiled(nodes, median(whole.ms)), whole, runs)


def unprofiled(nodes: Mapping[str, float], whole_ms: float) -> dict[str, float]:
    """Traced ms of nodes without the profiler's overhead, scaled to add up to `whole_ms`, the
    model's time without the profiler. The overhead per node is at most the shortest node: any
    further difference is a slower device. Raises `WorkloadError` where the nodes add up to far too
    little of `whole_ms`."""
    if sum(nodes.values()) < _LEAST_SHARE * whole_ms:
        raise WorkloadError(
            f"the {len(nodes)} nodes of a traced model add up to {sum(nodes.values()):.4g} ms, of "
            f"{whole_ms:.4g} ms in all"
        )
    added_ms = max(0.0, (sum(nodes.values()) - whole_ms) / len(nodes))
    added_ms = min(added_ms, *nodes.values())
    less = {name: max(ms - added_ms, _FLOOR * ms) for name, ms in nodes.items()}
    scale = whole_ms / sum(less.values())
    return {name: scale * ms for name, ms in less.items()}


def _by_layer(network: NetworkSpec, nodes: Mapping[str, float]) -> dict[LayerKey, float]:
    """Sums the times of nodes, in order of execution, by the layers that they execute."""
    found = [_layer_of(network, name) for name in nodes]
    last = next((layer for layer in found if layer is not None), None)
    if last is None:
        raise DeviceError(f"{network.name}: no node of the traced model is one of its layers")
    layers: dict[LayerKey, float] = {}
    for layer, ms in zip(found, nodes.values(), strict=True):
        last = layer or last
        layers[last] = layers.get(last, 0.0) + ms
    return layers


def _layer_of(network: NetworkSpec, node: str) -> LayerKey | None:
    """The layer in a node's name ("3.expand.relu6_nchwc", or "output_nchwc" for the last layer);
    None where there is none."""
    if node.startswith(_OUTPUT):
        return len(network.ops) - 1, network.ops[-1].layers[-1].name
    position, _, rest = node.partition(".")
    if not position.isdecimal() or int(position) >= len(network.ops):
        return None
    named = [
        layer.name
        for layer in network.ops[int(position)].layers
        if rest == layer.name or rest.startswith(tuple(layer.name + c for c in "._/"))
    ]
    return (int(position), max(named, key=len)) if named else None
