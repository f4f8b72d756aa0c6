"""The kernel suite: measures the kernels of all kinds of CNNs on a device."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from devices.card import Measuring
from devices.device import Device, Workload
from devices.kernel_suite.fusion import timed_fusion, traced_fusion
from devices.kernel_suite.random_cnns import draw_networks, random_blocks
from devices.kernel_suite.sampling import expected_errors
from devices.kernel_suite.traced import trace_kernels
from devices.measuring.rounds import Keeper, Measured, OnProgress, measure
from latency.errors import DeviceError
from latency.graphs.fusion import SUITE, Fusion
from latency.graphs.kernels import KernelGraph
from latency.graphs.network_graph import network_kernels
from latency.operators.features import kernel_families
from latency.operators.spec import OpSpec
from latency.predictors.regression import fit, operators_of
from latency.tables.calibration import calibrate, validate
from latency.tables.measurement import Origin
from latency.tables.table import LatencyTable

NETWORKS, HELD_OUT = 96, 12
"""Random networks whose kernels are measured, and networks of blocks that validate a table of
kernels measured alone."""
_EVEN_OF_A_FAMILY, _OF_A_FAMILY = 24, 40
"""Kernels per family that are measured alone first, and on average in all: minutes on a small
device."""


def profile_kernels(
    device: Device,
    measuring: Measuring,
    journal: Keeper,
    circumstances: Mapping[str, str],
    on_progress: OnProgress = lambda progress: None,
    networks: int = NETWORKS,
    held_out: int = HELD_OUT,
) -> LatencyTable:
    """The table of the kernels of random networks, with the fusion rules of the device's runtime.

    If the runtime executes ONNX files and has a per-node profiler, kernels are traced inside those
    networks; otherwise they are measured alone. Either way a first part is drawn evenly, and the
    rest where the expected error is highest (`devices.kernel_suite.sampling`). The table states its
    error on networks: traced ones by cross-validation, or `held_out` ones of blocks. Raises
    `DeviceError` where the device fails.
    """
    fusion = traced_fusion(device)
    if fusion is not None:
        table = trace_kernels(device, fusion, measuring, journal, on_progress, networks)
    else:
        table = _measure_alone(device, measuring, journal, on_progress, networks, held_out)
    return replace(table, circumstances=circumstances)


def _measure_alone(
    device: Device,
    measuring: Measuring,
    journal: Keeper,
    on_progress: OnProgress,
    count: int,
    held_out: int,
) -> LatencyTable:
    """The table of kernels of `count` random networks, each kernel measured alone. Random networks
    of blocks are measured as wholes: one half calibrates the sum of kernels to networks; the other,
    never fitted on, gives the table's error. Raises `DeviceError` where no kernel could be
    measured."""
    fusion = timed_fusion(device, journal)
    networks = draw_networks(count, fusion, batch=device.setting.batch)
    graphs = [network.graph for network in networks]
    kernels = [
        op for op in dict.fromkeys(op for g in graphs for op in g.ops) if op.kind != "reorder"
    ]
    started = {sample.workload for sample in journal.samples}
    ops = _even(kernels, _EVEN_OF_A_FAMILY)
    measured = measure(device, [Workload.of_op(op) for op in ops], measuring, journal, on_progress)
    first = _table(device, ops, measured, fusion)
    left = _uncertain(first, graphs, [op for op in kernels if op not in ops], started)
    ops += left[: len(_even(kernels, _OF_A_FAMILY)) - len(ops)]
    wholes = [random_blocks(seed, device.setting.batch) for seed in range(2 * held_out)]
    workloads = [Workload.of_op(op) for op in ops] + [Workload.of_network(n) for n in wholes]
    measured = measure(device, workloads, measuring, journal, on_progress)
    table = _table(device, ops, measured, fusion)
    timed = [
        (network_kernels(whole, fusion), measured.rows[whole.name].median_ms)
        for whole in wholes
        if whole.name in measured.rows
    ]
    how = f"{len(table)} kernels, each alone, and {len(timed)} networks of blocks"
    return replace(
        _calibrated(table, timed[::2], timed[1::2]),
        measured={SUITE: f"{how}; {measured.happened}"},
        failed=measured.failures,
    )


def _table(
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


def _even(kernels: Sequence[OpSpec], count: int) -> list[OpSpec]:
    """Up to `count` kernels of each family, evenly drawn."""
    families = kernel_families(kernels)
    return [op for ops in families.values() for op in ops[:: max(1, len(ops) // count)][:count]]


def _uncertain(
    table: LatencyTable,
    networks: Sequence[KernelGraph],
    kernels: Sequence[OpSpec],
    started: Collection[str],
) -> list[OpSpec]:
    """Missing kernels: first those `started`, by key, in an interrupted run, then by decreasing
    expected error in a network."""
    most: dict[OpSpec, float] = {}
    for errors in expected_errors(table, networks):
        for op, error in errors.items():
            most[op] = max(most.get(op, 0.0), error)
    missing = [op for op in kernels if op in most]
    return sorted(missing, key=lambda op: (op.key not in started, -most[op]))


def _calibrated(
    table: LatencyTable,
    fitted_on: Sequence[tuple[KernelGraph, float]],
    unseen: Sequence[tuple[KernelGraph, float]],
) -> LatencyTable:
    """The table with the times of its kernels inside networks, and its error on unseen ones."""
    if not unseen:
        return table
    operators = [op for graph, _ in (*fitted_on, *unseen) for op in operators_of(graph)]
    alone = fit(table, extrapolate=True, operators=operators)
    alone_ms = {part.op: part.ms for graph, _ in fitted_on for part in alone.predict(graph).per_op}
    found = calibrate(alone_ms, [(graph.ops, ms) for graph, ms in fitted_on])
    inside = {op: found.in_network_ms(op, row.median_ms) for op, row in table.rows.items()}
    table = replace(table, in_network_ms=inside, calibrations={SUITE: found})
    inside_networks = fit(table, extrapolate=True, operators=operators)
    predicted = [inside_networks.predict(graph).ms for graph, _ in unseen]
    return replace(table, validations={SUITE: validate(predicted, [ms for _, ms in unseen])})
