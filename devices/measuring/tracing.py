"""Tracing: what operators take inside whole networks, by the runtime's own profiler.

Next to operators measured alone (`devices.measuring.rounds`): here an operator's neighbours,
layouts and caches are those of the network, and the operators add up to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from devices.device import Device, Timing, Workload
from devices.measuring.rounds import OnProgress, Progress
from devices.measuring.sessions import PatientSitting
from latency.errors import DeviceError, WorkloadError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.units import LEAST_MS

_FLOOR = 0.1
"""A node never takes less than this share of what the profiler says."""

_LEAST_SHARE = 0.05
"""Nodes that add up to less of the time that the model takes are no profile of it."""

_OUTPUT = "output"
"""Of a model, by which a runtime names its last node where that is fused with others."""
Place = tuple[int, str]
"""Position of an operator in a network, and name of one of its layers."""


@dataclass(frozen=True)
class TraceTimes:
    """For how long a model is traced, within bounds on the number of `runs`, after `warm_up` runs;
    and for how long it runs without the profiler, just before and just after."""

    traced_ms: float
    whole_ms: float
    runs: tuple[int, int]
    warm_up: int


@dataclass(frozen=True)
class Trace:
    """ms of each node that the runtime executes of a model, in order of execution, without what
    profiling adds to them: they add up to the median of `whole`, the runs without the profiler.
    `runs`: how many were traced."""

    nodes: Mapping[str, float]
    whole: Timing
    runs: int

    @property
    def ms(self) -> float:
        """What the whole model takes."""
        return median(self.whole.ms)


_TIMES = TraceTimes(traced_ms=500.0, whole_ms=250.0, runs=(8, 60), warm_up=5)


def trace_layers(
    device: Device, network: NetworkSpec, whole_ms: float | None = None
) -> dict[Place, float]:
    """ms of each layer while the whole network runs, in order of execution.

    A layer that the runtime fuses into another is not named, its time is the other's. Nodes that
    the runtime inserts (changes of layout) count for the layer before them. A profiler adds about
    the same to every node, which is known from runs without it just before and after, and taken
    off. Then the layers are scaled to add up to `whole_ms`, which the network is known to take;
    without it, to what those runs took.

    {} where the device offers no per-operator profile. Raises `DeviceError` where it fails.
    """
    with PatientSitting(device) as patient:
        return _trace(patient, network, whole_ms) if patient.traces else {}


def trace_ops(
    device: Device,
    networks: Sequence[NetworkSpec],
    whole_ms: Mapping[str, float],
    on_progress: OnProgress = lambda progress: None,
) -> dict[OpSpec, float]:
    """ms that each operator takes inside networks: its median over all its occurrences in them.

    `whole_ms`: what each network takes unprofiled, by its name; those without are left out. In
    each network the operators add up to it, as in `trace_layers`. {} where the device offers no
    per-operator profile. Raises `DeviceError` where it fails.
    """
    found: dict[OpSpec, list[float]] = {}
    known = [network for network in networks if network.name in whole_ms]
    with PatientSitting(device) as patient:
        if not patient.traces:
            return {}
        for done, network in enumerate(known):
            on_progress(Progress(done, len(known), "tracing"))
            operators: dict[int, float] = {}
            for (position, _), ms in _trace(patient, network, whole_ms[network.name]).items():
                operators[position] = operators.get(position, 0.0) + ms
            for position, ms in operators.items():
                found.setdefault(network.ops[position], []).append(ms)
        on_progress(Progress(len(known), len(known), "tracing"))
    return {op: ms for op, times in found.items() if (ms := median(times)) >= LEAST_MS}


def _trace(
    patient: PatientSitting, network: NetworkSpec, whole_ms: float | None
) -> dict[Place, float]:
    trace = trace_model(patient, Workload.of_network(network), _TIMES)
    scale = (whole_ms or trace.ms) / trace.ms
    return {place: scale * ms for place, ms in _by_layer(network, trace.nodes).items()}


def trace_model(patient: PatientSitting, workload: Workload, times: TraceTimes) -> Trace:
    """Run a model without the profiler, with it, and without it again.

    Raises `DeviceError` where the runtime names no nodes, `WorkloadError` where these are far too
    little to be all that the model does.
    """
    before = patient.burst(workload, times.whole_ms, None)
    runs = int(np.clip(times.traced_ms / median(before.ms), *times.runs))
    nodes = patient.trace(workload, times.warm_up, runs)
    after = patient.burst(workload, times.whole_ms, median(before.ms))
    if not nodes:
        raise DeviceError(f"{workload.name}: the runtime tells nothing of its nodes")
    whole = Timing(before.ms + after.ms, before.runs + after.runs)
    return Trace(unprofiled(nodes, median(whole.ms)), whole, runs)


def unprofiled(nodes: Mapping[str, float], whole_ms: float) -> dict[str, float]:
    """Traced ms of nodes without what profiling adds to each, scaled to add up to `whole_ms`, what
    the model takes unprofiled. It adds no more to a node than the least node takes: beyond that,
    the device was slower meanwhile. Raises `WorkloadError` where they are far too little to be all
    that the model does."""
    if sum(nodes.values()) < _LEAST_SHARE * whole_ms:
        raise WorkloadError(
            f"the {len(nodes)} nodes of a traced model add up to {sum(nodes.values()):.4g} ms, of "
            f"{whole_ms:.4g} ms that it takes"
        )
    added_ms = max(0.0, (sum(nodes.values()) - whole_ms) / len(nodes))
    added_ms = min(added_ms, *nodes.values())
    less = {name: max(ms - added_ms, _FLOOR * ms) for name, ms in nodes.items()}
    scale = whole_ms / sum(less.values())
    return {name: scale * ms for name, ms in less.items()}


def _by_layer(network: NetworkSpec, nodes: Mapping[str, float]) -> dict[Place, float]:
    """Times of nodes, in order of execution, as times of the layers that they execute."""
    places = [_place(network, name) for name in nodes]
    last = next((place for place in places if place is not None), None)
    if last is None:
        raise DeviceError(f"{network.name}: no node of the traced model is one of its layers")
    layers: dict[Place, float] = {}
    for place, ms in zip(places, nodes.values(), strict=True):
        last = place or last
        layers[last] = layers.get(last, 0.0) + ms
    return layers


def _place(network: NetworkSpec, node: str) -> Place | None:
    """The layer that a node is named by ("3.expand.relu6_nchwc", "output_nchwc" for the last
    one); None where by none."""
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
