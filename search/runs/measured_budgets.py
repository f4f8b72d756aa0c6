"""Latency budgets whose devices can be reached, and how networks are measured on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from devices.measuring.rounds import OnProgress
from latency.atomic_file import write_whole
from latency.modules import NetworkModule
from latency.operators.network import NetworkSpec
from latency.tables.measurement import Measurement
from search.budget import Budget
from search.confirmation import MeasureNetwork, confirm, measure_on
from search.console import following
from search.jobs.bench import Bench
from search.space import network_at


@dataclass(frozen=True)
class MeasuredBudget:
    """A latency budget and what it is measured on."""

    budget: Budget
    bench: Bench

    def network(self, network: NetworkSpec) -> NetworkSpec:
        """A network at the batch of the device."""
        return network_at(network, self.bench.card.batch)

    def measure(self, show: OnProgress) -> MeasureNetwork:
        """A function that measures networks at the batch of the device."""
        measure = measure_on(self.bench.device, self.bench.card.measuring, show)
        return lambda network: measure(self.network(network))


def measure_deployed(
    measured: Sequence[MeasuredBudget],
    network: NetworkSpec,
    module: NetworkModule,
    bar: Progress,
    folder: Path | None = None,
) -> dict[str, Measurement]:
    """Measure the file that each target's runtime executes; by the budgets' names. With a `folder`,
    the files are written there as model.*, and are measured longer while over their budgets."""
    show = following(bar, "measuring the trained network", visible=bool(measured))
    results = {}
    written: set[str] = set()
    for one in measured:
        own, device = one.network(network), one.bench.device
        model = device.build(own, module.folded)
        if folder is not None and device.suffix not in written:  # of two targets, the first one's
            write_whole((folder / "model").with_suffix(device.suffix), model)
            written.add(device.suffix)
        limit = math.inf if folder is None else one.budget.limit
        measuring = one.bench.card.measuring
        results[one.budget.name] = confirm(device, own, model, limit, measuring, show)
    return results
