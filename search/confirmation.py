"""Confirmation: a derived network is measured on the devices, and the measurements correct the
latency models, until a network meets the budgets."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from devices.card import Measuring
from devices.device import Device, Workload
from devices.export.onnx_model import onnx_model
from devices.measuring.rounds import Kept, OnProgress, measure
from latency.errors import InfeasibleError
from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget
from search.space import SearchSpace, network_at

AIM = 0.975
"""Share of a latency budget that a derived network should use: the rest is a margin for the
measurement's interval, and for the device's drift until the network is trained."""
_EASE = 1.025
"""Factor by which the measured budgets are raised if no network is within all of them."""
_USE = 0.925
"""Share of the budget below which a network uses too little of it."""
_ATTEMPTS = 8
_RETRIES = ((1, 1.0), (3, 4.0), (8, 4.0))
"""How many times as long the deployed model is measured, and the seconds between sessions."""
_PAUSE_SECONDS = 1.0
"""Seconds between sessions of a derived network."""

Choose = Callable[[Sequence[float]], tuple[int, ...]]
"""The best network whose costs are within these limits, one per budget, near the first."""

MeasureNetwork = Callable[[NetworkSpec], Measurement]


@dataclass(frozen=True)
class Attempt:
    """A derived network. `predicted`: by the uncorrected latency models, and `measured`: if the
    device can be reached, both by the budget's name."""

    choices: tuple[int, ...]
    network: NetworkSpec
    predicted: Mapping[str, float]
    measured: Mapping[str, Measurement] = field(default_factory=dict)

    @property
    def corrections(self) -> dict[str, float]:
        """The factors by which the models agree with the measurements."""
        return {name: m.median_ms / self.predicted[name] for name, m in self.measured.items()}

    def meets(self, budgets: Sequence[Budget]) -> bool:
        """Whether every measured latency is within its budget, interval included."""
        limits = {budget.name: budget.limit for budget in budgets}
        return all(m.high_ms <= limits[name] for name, m in self.measured.items())

    def use(self, budgets: Sequence[Budget]) -> float:
        """Largest share of a budget that it uses, as measured."""
        limits = {budget.name: budget.limit for budget in budgets}
        return max(m.median_ms / limits[name] for name, m in self.measured.items())


def derive_confirmed(
    space: SearchSpace,
    choose: Choose,
    budgets: Sequence[Budget],
    measures: Mapping[str, MeasureNetwork],
    corrections: Mapping[str, float] | None = None,
) -> tuple[Attempt, ...]:
    """Derive, measure, correct the models by the measurements, and derive again, until a network
    meets the budgets and uses enough of one. Returns all attempts, the best one last; it misses a
    budget only if all did.

    `measures`: functions that measure a network, by the name of the target. `corrections`: initial
    factors of the models. Raises `InfeasibleError` if no network is within the budgets that are not
    measured.
    """
    corrections = dict(corrections or {})
    attempts: list[Attempt] = []
    while len(attempts) < _ATTEMPTS:
        choices = _choose_within(choose, budgets, measures.keys(), corrections)
        if choices in [attempt.choices for attempt in attempts]:
            break
        last = attempt_of(space, choices, budgets)
        measured = {
            name: measure_network(last.network) for name, measure_network in measures.items()
        }
        last = replace(last, measured=measured)
        attempts.append(last)
        if not measured:
            break
        aim = corrected_limits(budgets, measures.keys(), corrections, AIM)[0]
        has_slower = aim < budgets[0].costs.slowest_ms
        if last.meets(budgets) and (last.use(budgets) >= _USE or not has_slower):
            break
        corrections |= last.corrections
    if not measures:
        return tuple(attempts)

    def rank(attempt: Attempt) -> tuple[bool, float]:
        """The largest use of the budgets that are met; of those that are missed, the smallest."""
        use = attempt.use(budgets)
        return (True, use) if attempt.meets(budgets) else (False, -use)

    return tuple(sorted(attempts, key=rank))


def attempt_of(space: SearchSpace, choices: tuple[int, ...], budgets: Sequence[Budget]) -> Attempt:
    """The network of these choices, with its predicted costs."""
    predicted = {budget.name: float(budget.costs.predict(choices)[0]) for budget in budgets}
    return Attempt(choices, space.network(choices), predicted)


def _choose_within(
    choose: Choose,
    budgets: Sequence[Budget],
    measured: Collection[str],
    corrections: Mapping[str, float],
) -> tuple[int, ...]:
    """The best network by the corrected models, with a margin under the budgets that are
    `measured`. If there is none, these budgets are raised together until there is. Raises
    `InfeasibleError` if none is within the other budgets."""
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
    """Limits on the uncorrected predictions: for a `measured` budget, a share of it, corrected."""
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
    """A function that measures networks with random weights, at the batch of the device."""

    def measure_network(network: NetworkSpec) -> Measurement:
        workload = Workload.of_network(network_at(network, device.setting.batch))
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

    If it is over the budget, it is measured several times as long, since a shared machine may be
    slow for minutes. All samples count.
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
    """To half a percent, over fresh processes with pauses, as the speed of a shared machine changes
    by the second."""
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
