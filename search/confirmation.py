"""Confirmation: what was derived is measured on the device, and what was measured corrects the
latency model, until the network meets the budget. The only file of the search (besides its
commands) that sees a device."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.card import Measuring
from devices.device import Device, Workload
from devices.drift import Burst
from devices.export import onnx_model
from devices.measuring import measure
from latency.candidates import CandidateLatency
from latency.errors import UsageError
from latency.measurement import Measurement
from latency.modules import NetworkModule
from latency.network import NetworkSpec
from search.derivation import derive
from search.space import SearchSpace

_AIM = 0.975
"""Share of the budget that a derived network is to take: what is left over is room for the
measurement's interval, and for the device's drift until the network is trained."""
_BAND = 0.025
"""How far under its aim a network may be as long as the space has slower ones."""
_ATTEMPTS = 8
_PATIENCE = ((1, 1.0), (3, 4.0), (8, 4.0))
"""How many times as long the deployed model is measured, and the seconds between sittings."""

MeasureNetwork = Callable[[NetworkSpec], Measurement]


@dataclass(frozen=True)
class Attempt:
    """A derived network, and what was found out about it."""

    choices: tuple[int, ...]
    network: NetworkSpec
    predicted_ms: float
    """By the latency model as it was given, uncorrected."""
    measured: Measurement | None
    """None where the device was not at hand."""

    @property
    def correction(self) -> float:
        """By what the model is to be multiplied to agree with the measurement."""
        return self.measured.median_ms / self.predicted_ms if self.measured else 1.0


def derive_confirmed(
    space: SearchSpace,
    utility: NDArray[np.float64],
    costs: CandidateLatency,
    budget_ms: float,
    measure_network: MeasureNetwork,
    correction: float = 1.0,
) -> tuple[Attempt, ...]:
    """Derive, measure, correct the model by what was measured, and derive again, until a network
    meets the budget and makes use of it. All attempts, the best one last.

    `correction` is what the model is multiplied by at first. The last attempt misses the budget
    only where all did.
    """
    attempts: list[tuple[Attempt, Measurement]] = []
    tried: set[tuple[int, ...]] = set()
    for _ in range(_ATTEMPTS):
        choices = _derive_in_band(utility, costs, budget_ms * _AIM / correction)
        if choices in tried:
            break
        tried.add(choices)
        network = space.network(choices)
        predicted_ms = float(costs.predict(choices)[0])
        measured = measure_network(network)
        attempts.append((Attempt(choices, network, predicted_ms, measured), measured))
        makes_use = measured.median_ms >= budget_ms * (_AIM - 2 * _BAND)
        has_slower = budget_ms * _AIM < correction * costs.slowest_ms
        if measured.high_ms <= budget_ms and (makes_use or not has_slower):
            break
        correction = measured.median_ms / predicted_ms
    # The slowest that meets the budget; where none does, the fastest.
    ordered = sorted(
        attempts,
        key=lambda pair: (
            (1, pair[1].median_ms) if pair[1].high_ms <= budget_ms else (0, -pair[1].median_ms)
        ),
    )
    return tuple(attempt for attempt, _ in ordered)


def _derive_in_band(
    utility: NDArray[np.float64], costs: CandidateLatency, aim_ms: float
) -> tuple[int, ...]:
    """The most probable network that takes about `aim_ms`, or the nearest there is below; the
    fastest one where none is below."""
    aim_ms = max(aim_ms, costs.fastest_ms)
    try:
        return derive(utility, costs, aim_ms, at_least_ms=aim_ms * (1 - _BAND))
    except UsageError:
        return derive(utility, costs, aim_ms)


def measure_on(
    device: Device, measuring: Measuring, sleep: Callable[[float], None] = time.sleep
) -> MeasureNetwork:
    """A function that measures networks with random weights, for `derive_confirmed`."""

    def measure_network(network: NetworkSpec) -> Measurement:
        workload = Workload.of_network(network)
        return measure(device, [workload], _longer(measuring), sleep=sleep)[workload.name]

    return measure_network


def confirm(
    device: Device,
    network: NetworkSpec,
    model: bytes,
    budget_ms: float,
    measuring: Measuring,
    sleep: Callable[[float], None] = time.sleep,
) -> Measurement:
    """Measure the model file that is to be deployed.

    Over the budget, it is measured several times as long before the verdict, since a shared
    machine may be slow for minutes. All that was measured counts.
    """
    workload = Workload(network.name, network.ops, model)
    kept = _Kept()
    for times, pause_seconds in _PATIENCE:
        rule = _longer(measuring, times, pause_seconds)
        measured = measure(device, [workload], rule, kept, sleep=sleep)[workload.name]
        if measured.high_ms <= budget_ms:
            break
    return measured


def export(network: NetworkSpec, module: NetworkModule) -> bytes:
    """The trained network as an ONNX file, batch norm folded."""
    return onnx_model(network.ops, module.folded, network.name)


class _Kept:
    """Bursts in memory, where `measure` takes up what was measured before."""

    def __init__(self) -> None:
        self.bursts: list[Burst] = []

    def append(self, burst: Burst) -> None:
        self.bursts.append(burst)


def _longer(measuring: Measuring, times: int = 1, pause_seconds: float = 1.0) -> Measuring:
    """To half a percent, over fresh processes some time apart: a shared machine is faster in one
    second than in the next."""
    longer = {
        "network_ci95": 0.005,
        "sittings": 5 * times,
        "max_sittings": max(5, measuring.max_sittings) * times,
        "pause_seconds": pause_seconds,
        "min_bursts": 60 * times,
        "max_network_bursts": 200 * times,
        "burst_ms": 2.0,
    }
    return measuring.model_copy(update=longer)
