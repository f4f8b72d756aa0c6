"""Profiling: measure operators and whole networks on devices, and make the table of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from devices.card import Measuring
from devices.device import Device, Workload
from devices.fleet import measure_on_all
from devices.measuring.rounds import Keeper, Measured, OnProgress
from devices.measuring.tracing import trace_ops
from latency.errors import DeviceError, LatError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.tables.calibration import calibrate, validate
from latency.tables.setting import Setting
from latency.tables.table import LatencyTable


def profile(
    devices: Sequence[Device],
    operators: Iterable[OpSpec],
    calibration: Sequence[NetworkSpec],
    held_out: Sequence[NetworkSpec],
    space: str,
    measuring: Measuring,
    journals: Sequence[Keeper],
    circumstances: Mapping[str, str],
    on_progress: OnProgress = lambda progress: None,
    seed: int = 0,
    absent: Sequence[Keeper] = (),
) -> LatencyTable:
    """Measure operators and whole networks of a space on one device, or on several that share
    the work, and return their table.

    `journals`: one per device, or none; `absent`: those of devices that are not connected now.
    `calibration` networks scale the sum of operators to networks; the `held_out` ones, never
    fitted on, give the error that the table states for this `space`. Operators that fail are named
    in the table's header; networks that contain one are left out. Where the first device has a
    per-operator profiler, operators are also traced inside the calibration networks
    (`devices.measuring.tracing`). Raises `DeviceError` where nothing could be measured.
    """
    ops = list(dict.fromkeys(operators))
    workloads = [Workload.of_op(op) for op in ops]
    workloads += [Workload.of_network(network) for network in (*calibration, *held_out)]
    measured = measure_on_all(devices, workloads, measuring, journals, on_progress, seed, absent)
    setting = devices[0].setting
    table = _table_of(setting, ops, calibration, held_out, space, measured, circumstances)
    whole_ms = {name: row.median_ms for name, row in measured.rows.items()}
    try:
        traced = trace_ops(devices[0], calibration, whole_ms, on_progress)
    except LatError as error:
        return replace(table, traced={space: f"failed: {error}"})
    return _with_traced(table, traced, sum(n.name in whole_ms for n in calibration), space)


def _table_of(
    setting: Setting,
    ops: Sequence[OpSpec],
    calibration: Sequence[NetworkSpec],
    held_out: Sequence[NetworkSpec],
    space: str,
    measured: Measured,
    circumstances: Mapping[str, str],
) -> LatencyTable:
    rows = {op: measured.rows[op.key] for op in ops if op.key in measured.rows}
    if not rows:
        name, error = next(iter(measured.failures.items()))
        raise DeviceError(f"no operator could be measured; the first, {name}: {error}")
    fitted_on, unseen = (
        [
            (network.parts, measured.rows[network.name].median_ms)
            for network in networks
            if network.name in measured.rows and rows.keys() >= set(network.parts)
        ]
        for networks in (calibration, held_out)
    )
    calibrated = calibrate({op: row.median_ms for op, row in rows.items()}, fitted_on)
    in_network_ms = {op: calibrated.in_network_ms(op, row.median_ms) for op, row in rows.items()}
    predicted = [sum(in_network_ms[op] for op in parts) for parts, _ in unseen]
    return LatencyTable(
        setting,
        rows,
        in_network_ms,
        calibrations={space: calibrated},
        validations={space: validate(predicted, [ms for _, ms in unseen])} if unseen else {},
        circumstances=circumstances,
        measured={space: measured.happened},
        failed=measured.failures,
    )


def _with_traced(
    table: LatencyTable, traced: Mapping[OpSpec, float], networks: int, space: str
) -> LatencyTable:
    """The table with the traced times of its operators, and how far these differ from its own."""
    known = {op: ms for op, ms in traced.items() if op in table.rows}
    if not known:
        return table
    off = [abs(ms / table.in_network_ms[op] - 1) for op, ms in known.items()]
    summary = (
        f"{len(known)} of {len(table.rows)} operators in {networks} networks; "
        f"{100 * np.median(off):.1f} % from in_network_ms (median)"
    )
    return replace(
        table,
        rows={op: replace(row, traced_ms=known.get(op)) for op, row in table.rows.items()},
        traced={space: summary},
    )
