"""Confirmation: what was derived is measured on the devices, and what was measured corrects the
latency models, until the network meets the budgets. The only file of the search (besides its
commands) that sees a device."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from devices.card import Measuring
from devices.device import Device, Workload
from devices.export.onnx_model import onnx_model
from devices.measuring.rounds import Kept, OnProgress, measure
from latency.errors import InfeasibleError
from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget
from search.space import SearchSpace

AIM = 0.975
"""Share of a latency budget that a derived network is to take: what is left over is room for the
measurement's interval, and for the device's drift until the network is trained."""
_EASE = 1.025
"""By how much the measured budgets are eased at a time where no network is within all of them."""
_USE = 0.925
"""Share of the budget below which a network uses too little of it."""
_ATTEMPTS = 8
_RETRIES = ((1, 1.0), (3, 4.0), (8, 4.0))
"""How many times as long the deployed model is measured, and the seconds between sessions."""
_PAUSE_SECONDS = 1.0
"""Between sessions of a derived network."""

Choose = Callable[[Sequence[float]], tuple[int, ...]]
"""The best network whose costs are within these limits, one per budget, near the first."""

MeasureNetwork = Callable[[NetworkSpec], Measurement]


@dataclass(frozen=True)
class Attempt:
    """A derived network, and what was found out about it.

    `predicted` by the latency models as they were given, uncorrected, and `measured` where the
    device was at hand: both by the budget's name.
    """

    choices: tuple[int, ...]
    network: NetworkSpec
    predicted: Mapping[str, float]
    measured: Mapping[str, Measurement] = field(default_factory=dict)

    @property
    def corrections(self) -> dict[str, float]:
        """By what each model is to be multiplied to agree with the measurement."""
        return {name: m.median_ms / self.predicted[name] for name, m in self.measured.items()}

    def meets(self, budgets: Sequence[Budget]) -> bool:
        """Whether every measured latency is within its budget, interval included."""
        limits = {budget.name: budget.limit for budget in budgets}
        return all(m.high_ms <= limits[name] for name, m in self.measured.items())

    def use(self, budgets: Sequence[Budget]) -> float:
        """Largest share of a budget that it takes, as measured."""
        limits = {budget.name: budget.limit for budget in budgets}
        return max(m.median_ms / limits[name] for name, m in self.measured.items())


def derive_confirmed(
    space: SearchSpace,
    choose: Choose,
    budgets: Sequence[Budget],
    measures: Mapping[str, MeasureNetwork],
    corrections: Mapping[str, float] | None = None,
) -> tuple[Attempt, ...]:
    """Derive, measure, correct the models by what was measured, and derive again, until a network
    meets the budgets and makes use of one. All attempts, the best one last.

    `measures`: how a network is measured on each target at hand, by its name. `corrections`: what
    its model is multiplied by at first. The last attempt misses a budget only where all did.
    Raises `InfeasibleError` where no network is within the budgets that are not measured.
    """
    corrections = dict(corrections or {})
    attempts: list[Attempt] = []
    while len(attempts) < _ATTEMPTS:
        choices = _choose_within(choose, budgets, measures.keys(), corrections)
        if choices in [attempt.choices for attempt in attempts]:
            break
        network = space.network(choices)
        measured = {name: measure_network(network) for name, measure_network in measures.items()}
        attempts.append(Attempt(choices, network, predictions(budgets, choices), measured))
        if not measured:
            break
        last = attempts[-1]
        aim = corrected_limits(budgets, measures.keys(), corrections, AIM)[0]
        has_slower = aim < budgets[0].costs.slowest_ms
        if last.meets(budgets) and (last.use(budgets) >= _USE or not has_slower):
            break
        corrections |= last.corrections
    # That which makes the most use of a budget; where none meets them all, the nearest to.
    return tuple(sorted(attempts, key=lambda one: _rank(one, budgets)))


def _rank(attempt: Attempt, budgets: Sequence[Budget]) -> tuple[bool, float]:
    if not attempt.measured:
        return True, 0.0
    use = attempt.use(budgets)
    return (True, use) if attempt.meets(budgets) else (False, -use)


def predictions(budgets: Sequence[Budget], choices: Sequence[int]) -> dict[str, float]:
    """What the network of these choices costs of each budget, by its name."""
    return {budget.name: float(budget.costs.predict(choices)[0]) for budget in budgets}


def _choose_within(
    choose: Choose,
    budgets: Sequence[Budget],
    measured: Collection[str],
    corrections: Mapping[str, float],
) -> tuple[int, ...]:
    """The best network by the models as corrected, with room under the budgets that are `measured`.
    Where none leaves the room, or none is within all budgets, the measured ones are eased together
    until one is. Raises `InfeasibleError` where none is within those that are not."""
    share = AIM
    while True:
        limits = corrected_limits(budgets, measured, corrections, share)
        try:
            return choose(limits)
        except InfeasibleError:
            pairs = zip(budgets, limits, strict=True)
            if all(limit > b.costs.slowest_ms for b, limit in pairs if b.name in measured):
                raise
        share *= _EASE


def corrected_limits(
    budgets: Sequence[Budget],
    measured: Collection[str],
    corrections: Mapping[str, float],
    share: float = AIM,
) -> list[float]:
    """Limits on the uncorrected predictions: of a `measured` budget a share, corrected."""
    return [
        budget.limit * share / corrections.get(budget.name, 1.0)
        if budget.name in measured
        else budget.limit
        for budget in budgets
    ]


def measure_on(
    device: Device,
    measuring: Measuring,
    on_progress: OnProgress = lambda progress: None,
    sleep: Callable[[float], None] = time.sleep,
) -> MeasureNetwork:
    """A function that measures networks with random weights, for `derive_confirmed`."""

    def measure_network(network: NetworkSpec) -> Measurement:
        workload = Workload.of_network(network)
        rule = _longer(measuring, 1, _PAUSE_SECONDS)
        return measure(device, [workload], rule, on_progress=on_progress, sleep=sleep)[network.name]

    return measure_network


def confirm(
    device: Device,
    network: NetworkSpec,
    model: bytes,
    budget_ms: float,
    measuring: Measuring,
    on_progress: OnProgress = lambda progress: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Measurement:
    """Measure the model file that is to be deployed.

    Over the budget, it is measured several times as long before the verdict, since a shared
    machine may be slow for minutes. All that was measured counts.
    """
    workload = Workload(network.name, network.ops, model)
    kept = Kept()
    for times, pause_seconds in _RETRIES:
        rule = _longer(measuring, times, pause_seconds)
        measured = measure(device, [workload], rule, kept, on_progress, sleep=sleep)[network.name]
        if measured.high_ms <= budget_ms:
            break
    return measured


def export(network: NetworkSpec, module: NetworkModule) -> bytes:
    """The trained network as an ONNX file, batch norm folded."""
    return onnx_model(network.ops, module.folded, network.name)


def _longer(measuring: Measuring, times: int, pause_seconds: float) -> Measuring:
    """To half a percent, over fresh processes some time apart: a shared machine is faster in one
    second than in the next."""
    longer = {
        "network_ci95": 0.005,
        "sessions": 5 * times,
        "max_sessions": max(5, measuring.max_sessions) * times,
        "pause_seconds": pause_seconds,
        "min_samples": 60 * times,
        "max_network_samples": 200 * times,
        "sample_ms": 2.0,
    }
    return measuring.model_copy(update=longer)
