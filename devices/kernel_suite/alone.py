"""Kernels of CNNs measured alone, for runtimes without a per-node profiler.

Kernels of each family are drawn evenly, then by their expected error
(`devices.kernel_suite.sampling`). Random networks of blocks are measured as wholes: one half
calibrates the sum of kernels to networks; the other, never fitted on, gives the error that the
table states.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from devices.card import Measuring
from devices.device import Device, Workload
from devices.kernel_suite.random_blocks import random_blocks
from devices.kernel_suite.random_cnns import RandomNetwork
from devices.kernel_suite.sampling import expected_errors
from devices.measuring.rounds import Keeper, Measured, OnProgress, measure
from latency.errors import DeviceError
from latency.graphs.fusion import SUITE, Fusion
from latency.graphs.kernels import KernelGraph
from latency.graphs.network_graph import network_kernels
from latency.operators.features import kernel_families
from latency.operators.spec import OpSpec
from latency.predictors.regression import fit
from latency.tables.calibration import calibrate, validate
from latency.tables.measurement import Origin
from latency.tables.table import LatencyTable

_EVEN_OF_A_FAMILY, _OF_A_FAMILY = 24, 40
"""Kernels per family that are measured first, and on average in all: minutes on a small device."""


def measure_alone(
    device: Device,
    networks: Sequence[RandomNetwork],
    fusion: Fusion,
    measuring: Measuring,
    journal: Keeper,
    circumstances: Mapping[str, str],
    on_progress: OnProgress,
    held_out: int,
) -> LatencyTable:
    """The table of kernels of these networks, each measured alone. It is calibrated on as many
    networks of blocks as are held out. Raises `DeviceError` where none could be measured."""
    begun = {sample.workload for sample in journal.samples}
    ops = _even(networks, _EVEN_OF_A_FAMILY)
    measured = measure(device, [Workload.of_op(op) for op in ops], measuring, journal, on_progress)
    first = _table_of(device, ops, measured, fusion)
    count = len(_even(networks, _OF_A_FAMILY)) - len(ops)
    ops += _most_uncertain(first, networks, ops, count, begun)
    wholes = [random_blocks(seed, device.setting.batch) for seed in range(2 * held_out)]
    workloads = [Workload.of_op(op) for op in ops] + [Workload.of_network(n) for n in wholes]
    measured = measure(device, workloads, measuring, journal, on_progress)
    table = _table_of(device, ops, measured, fusion)
    graphs = [
        (network_kernels(whole, fusion), measured.rows[whole.name].median_ms)
        for whole in wholes
        if whole.name in measured.rows
    ]
    table = _calibrated(table, graphs[::2], graphs[1::2])
    how = f"{len(table)} kernels, each alone, and {len(graphs)} networks of blocks"
    return replace(
        table,
        circumstances=circumstances,
        measured={SUITE: f"{how}; {measured.happened}"},
        failed=measured.failures,
    )


def _table_of(
    device: Device, ops: Sequence[OpSpec], measured: Measured, fusion: Fusion
) -> LatencyTable:
    rows = {
        op: replace(measured.rows[op.key], note="", origin=Origin.SUITE_ALONE)
        for op in ops
        if op.key in measured.rows
    }
    if not rows:
        raise DeviceError(f"no kernel could be measured on {device.label}")
    return LatencyTable(device.setting, rows, fusion=fusion)


def _even(networks: Sequence[RandomNetwork], count: int) -> list[OpSpec]:
    """Up to `count` kernels of each family, evenly drawn."""
    families = kernel_families(_kernels(networks))
    return [op for ops in families.values() for op in ops[:: max(1, len(ops) // count)][:count]]


def _kernels(networks: Sequence[RandomNetwork]) -> list[OpSpec]:
    ops = dict.fromkeys(op for network in networks for op in network.graph.ops)
    return [op for op in ops if op.kind != "reorder"]


def _most_uncertain(
    table: LatencyTable,
    networks: Sequence[RandomNetwork],
    tried: Sequence[OpSpec],
    count: int,
    begun: Collection[str],
) -> list[OpSpec]:
    """Up to `count` kernels not tried yet: first those `begun`, by key, in an interrupted run, then
    those with the highest expected error in a network."""
    most: dict[OpSpec, float] = {}
    for errors in expected_errors(table, [network.graph for network in networks]):
        for op, error in errors.items():
            most[op] = max(most.get(op, 0.0), error)
    left = [op for op in _kernels(networks) if op in most and op not in tried]
    return sorted(left, key=lambda op: (op.key not in begun, -most[op]))[:count]


def _calibrated(
    table: LatencyTable,
    fitted_on: Sequence[tuple[KernelGraph, float]],
    unseen: Sequence[tuple[KernelGraph, float]],
) -> LatencyTable:
    """The table with the times of its kernels inside networks, and its error on unseen ones."""
    if not unseen:
        return table
    alone = fit(table, extrapolate=True)
    alone_ms = {part.op: part.ms for graph, _ in fitted_on for part in alone.predict(graph).per_op}
    found = calibrate(alone_ms, [(graph.ops, ms) for graph, ms in fitted_on])
    inside = {op: found.in_network_ms(op, row.median_ms) for op, row in table.rows.items()}
    table = replace(table, in_network_ms=inside, calibrations={SUITE: found})
    inside_networks = fit(table, extrapolate=True)
    predicted = [inside_networks.predict(graph).ms for graph, _ in unseen]
    return replace(table, validations={SUITE: validate(predicted, [ms for _, ms in unseen])})
