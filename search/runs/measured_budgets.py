"""Latency budgets whose devices are at hand, and how networks are measured on these."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devices.card import DeviceCard
from devices.device import Device
from devices.measuring.rounds import OnProgress
from latency.atomic_file import write_whole
from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget, BudgetKind
from search.confirmation import MeasureNetwork, confirm, measure_on
from search.jobs.targets import Target
from search.space import network_at


@dataclass(frozen=True)
class MeasuredBudget:
    """A latency budget, the device that it is measured on, and the device's card."""

    budget: Budget
    device: Device
    card: DeviceCard

    @property
    def name(self) -> str:
        """That of the budget and of its target."""
        return self.budget.name

    def network(self, network: NetworkSpec) -> NetworkSpec:
        """A network at the batch of the device."""
        return network_at(network, self.card.batch)

    def measure(self, show: OnProgress) -> MeasureNetwork:
        """A function that measures networks at the batch of the device."""
        measure = measure_on(self.device, self.card.measuring, show)
        return lambda network: measure(self.network(network))


def measured_budgets(
    budgets: Sequence[Budget], targets: Mapping[str, Target]
) -> list[MeasuredBudget]:
    """The latencies among the budgets whose targets are at hand."""
    latencies = [budget for budget in budgets if budget.kind is BudgetKind.LATENCY]
    found = [(budget, targets[budget.name].at_hand) for budget in latencies]
    return [MeasuredBudget(budget, *at_hand) for budget, at_hand in found if at_hand is not None]


def measure_deployed(
    measured: Sequence[MeasuredBudget],
    network: NetworkSpec,
    module: NetworkModule,
    show: OnProgress,
    folder: Path | None = None,
) -> dict[str, Measurement]:
    """Measure the file that each target's runtime executes; by the budgets' names. With a `folder`,
    the files are written there as model.*, and are measured longer while over their budgets."""
    results = {}
    written: set[str] = set()
    for one in measured:
        own, device = one.network(network), one.device
        model = device.build(own, module.folded)
        if folder is not None and device.suffix not in written:  # of two targets, the first one's
            write_whole((folder / "model").with_suffix(device.suffix), model)
            written.add(device.suffix)
        limit = math.inf if folder is None else one.budget.limit
        results[one.name] = confirm(device, own, model, limit, one.card.measuring, show)
    return results
