"""Networks side by side on one target: measured in the same rounds, and predicted."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devices.device import Device, Workload
from devices.measuring.record import Sample
from devices.measuring.rounds import Kept, OnProgress, measure
from latency import fit
from latency.errors import CoverageError, UsageError
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import Network
from latency.graphs.reader import graph_of, read_model
from latency.prediction import Prediction
from latency.predictors.regression import operators_of
from latency.stats import clustered_median
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from latency.zoo import PUBLISHED
from search.jobs.bench import Bench
from search.jobs.networks import read_network, sizes_of
from search.jobs.targets import Target


@dataclass(frozen=True)
class Contender:
    """A network that is compared. `source`: "zoo:NAME" or a file's path. `model`: the content of
    its ONNX file, if it is one."""

    source: str
    network: Network
    model: bytes | None = None

    @property
    def name(self) -> str:
        """The source in short; a file with its folder, since every run has a network.json."""
        return "/".join(Path(self.source.removeprefix("zoo:")).parts[-2:])

    def workload(self, device: Device) -> Workload | None:
        """What a device runs; None if there is no file of the network for its runtime."""
        runs = device.suffix == ".onnx" if self.model else not self.network.kernels
        return Workload(self.source, self.network.ops, self.model) if runs else None


@dataclass(frozen=True)
class Ratio:
    """Latency of a network relative to another one's, with its 95 % interval (none if it follows
    from predictions)."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ± {(self.high - self.low) / 2:.3f}"


@dataclass(frozen=True)
class Row:
    """The results for one network on the target.

    `top1`: in %, published and not measured by us, and where. `notes`: why a value is absent.
    """

    contender: Contender
    measured: Measurement | None
    ratio: Ratio | None
    predicted: Prediction | None
    top1: tuple[float, str] | None
    notes: tuple[str, ...]


def contenders_of(
    opened: Mapping[str, Any], target: Target, resolution: int | None, input_shape: str | None
) -> list[Contender]:
    """The networks of these sources, each with what `open_network` returned for it.

    Raises `UsageError` if the batch of one is not the target's.
    """
    fusion = target.table.fusion_rules if target.table else USUAL
    found = []
    for source, content in opened.items():
        network = read_network(source, target.batch, fusion, input_shape, resolution, None, content)
        if network.batch != target.batch:
            raise UsageError(
                f"{source} has batch {network.batch}, and {target.name} is measured at batch "
                f"{target.batch}: compare networks of one batch size"
            )
        is_onnx_file = bool(network.kernels) and not source.startswith("zoo:")
        model = _with_sizes(source, input_shape, network.batch) if is_onnx_file else None
        found.append(Contender(source, network, model))
    return found


def _with_sizes(source: str, input_shape: str | None, batch: int) -> bytes:
    """An ONNX file with all sizes of its inputs and outputs."""
    shapes = graph_of(read_model(source), source, sizes_of(input_shape), batch).shapes
    model = read_model(source)  # with its weights, which `graph_of` removes
    for value in (*model.graph.input, *model.graph.output):
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            del dims[:]
            for size in shapes[value.name]:
                dims.add().dim_value = size
    return bytes(model.SerializeToString())


def compare(
    target: Target,
    contenders: Sequence[Contender],
    against: Contender,
    extrapolate: bool,
    on_progress: OnProgress = lambda progress: None,
) -> list[Row]:
    """The latency of each network on the target, and its ratio to that of the network `against`.

    If the device can be reached, all networks are measured in every round of the same processes, so
    that a disturbance of the machine affects all alike; the ratio's interval is that of the median
    over rounds. If there is a table, they are predicted.
    """
    notes: dict[str, list[str]] = {contender.source: [] for contender in contenders}
    predicted = _predict(target.table, contenders, extrapolate, notes) if target.table else {}
    measured: Mapping[str, Measurement] = {}
    ratios: Mapping[str, Ratio] = {}
    if target.bench is not None:
        kept = Kept()
        measured = _measure(target.bench, contenders, notes, kept, on_progress)
        ratios = _measured_ratios(kept.samples, against.source)
    elif against.source in predicted:
        reference = predicted[against.source].ms
        ratios = {source: Ratio(one.ms / reference) for source, one in predicted.items()}
    return [
        Row(
            contender,
            measured.get(contender.source),
            ratios.get(contender.source),
            predicted.get(contender.source),
            PUBLISHED.get(contender.name) if contender.source.startswith("zoo:") else None,
            tuple(notes[contender.source]),
        )
        for contender in contenders
    ]


def _predict(
    table: LatencyTable,
    contenders: Sequence[Contender],
    extrapolate: bool,
    notes: Mapping[str, list[str]],
) -> dict[str, Prediction]:
    found: dict[str, Prediction] = {}
    operators = [op for contender in contenders for op in operators_of(contender.network)]
    model = fit(table, extrapolate=extrapolate, operators=operators)
    for contender in contenders:
        try:
            found[contender.source] = model.predict(contender.network)
        except CoverageError as error:
            notes[contender.source].append(f"not predicted: {error}")
    return found


def _measure(
    bench: Bench,
    contenders: Sequence[Contender],
    notes: Mapping[str, list[str]],
    kept: Kept,
    on_progress: OnProgress,
) -> Mapping[str, Measurement]:
    """Measured to half the interval that the card asks for operators, with pauses between
    processes, so that a machine's slow moments pass."""
    device, measuring = bench.device, bench.card.measuring
    rule = measuring.model_copy(
        update={
            "network_ci95": measuring.ci95 / 2,
            "max_network_samples": max(measuring.max_network_samples, measuring.max_samples),
            "pause_seconds": max(1.0, measuring.pause_seconds),
        }
    )
    workloads = []
    for contender in contenders:
        if workload := contender.workload(device):
            workloads.append(workload)
        else:
            runtime = device.setting.runtime
            notes[contender.source].append(f"not measured: {runtime} cannot run its graph")
    measured = measure(device, workloads, rule, kept, on_progress)
    for source, error in measured.failures.items():
        notes[source].append(f"not measured: {error}")
    return measured.rows


def _measured_ratios(samples: Iterable[Sample], against: str) -> dict[str, Ratio]:
    """The ratio of each workload to the one named `against`, over the rounds that measured both:
    the median of their logarithms, clustered by process (`latency.stats.clustered_median`)."""
    rounds: dict[tuple[int, int], dict[str, float]] = {}
    for sample in samples:
        rounds.setdefault((sample.session, sample.round), {})[sample.workload] = math.log(sample.ms)
    logs: dict[str, dict[int, list[float]]] = {}
    for (session, _), logs_ms in rounds.items():
        for name in logs_ms if against in logs_ms else ():
            by_session = logs.setdefault(name, {})
            by_session.setdefault(session, []).append(logs_ms[name] - logs_ms[against])
    ratios = {}
    for name, by_session in logs.items():
        middle, half = clustered_median(list(by_session.values()))
        ratios[name] = Ratio(*np.exp([middle, middle - half, middle + half]).tolist())
    return ratios
