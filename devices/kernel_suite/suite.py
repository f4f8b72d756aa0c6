"""The kernel suite: measures the kernels of all kinds of CNNs on a device."""

from collections.abc import Mapping

from devices.card import Measuring
from devices.device import Device
from devices.kernel_suite.alone import measure_alone
from devices.kernel_suite.fusion_timed import timed_fusion
from devices.kernel_suite.fusion_traced import traced_fusion
from devices.kernel_suite.random_cnns import draw_networks
from devices.kernel_suite.traced import trace_kernels
from devices.measuring.rounds import Keeper, Kept, OnProgress
from latency.tables.table import LatencyTable

NETWORKS, HELD_OUT = 96, 12
"""Random networks whose kernels are measured, and networks of blocks that validate a table of
kernels measured alone."""


def profile_kernels(
    device: Device,
    measuring: Measuring,
    journal: Keeper | None = None,
    circumstances: Mapping[str, str] | None = None,
    on_progress: OnProgress = lambda progress: None,
    networks: int = NETWORKS,
    held_out: int = HELD_OUT,
) -> LatencyTable:
    """The table of the kernels of random networks, with the fusion rules of the device's runtime.

    With a runtime that reports the nodes it executes of ONNX files, kernels are traced inside those
    networks (`devices.kernel_suite.traced`); with any other, they are measured alone
    (`devices.kernel_suite.alone`). Either way a first part is drawn evenly, and the rest where the
    expected error is highest (`devices.kernel_suite.sampling`). The table states its error on
    networks: traced ones by cross-validation, or `held_out` ones of blocks. Raises `DeviceError`
    where the device fails.
    """
    kept = Kept() if journal is None else journal
    known = circumstances or {}
    fusion = traced_fusion(device)
    if fusion is not None:
        return trace_kernels(device, fusion, measuring, kept, known, on_progress, networks)
    fusion = timed_fusion(device, kept)
    drawn = draw_networks(networks, fusion, batch=device.setting.batch)
    return measure_alone(device, drawn, fusion, measuring, kept, known, on_progress, held_out)
