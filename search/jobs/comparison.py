"""Networks side by side on one target: measured in the same rounds, and predicted."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.record import Sample
from devices.measuring.rounds import Kept, Measured, OnProgress, measure
from latency import fit
from latency.errors import CoverageError, SpecError, UsageError
from latency.files import read_file
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import Network
from latency.graphs.reader import MOST_BYTES, parse_graph
from latency.prediction import Prediction
from latency.stats import clustered_median
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from latency.zoo.chains import PUBLISHED
from search.jobs.networks import read_network, sizes_of
from search.jobs.targets import Target


@dataclass(frozen=True)
class Contender:
    """A network that is compared. `source`: what it was named by, "zoo:NAME" or a file's path.

    `model`: the content of its ONNX file, if it is one.
    """

    source: str
    network: Network
    model: bytes | None = None

    @property
    def name(self) -> str:
        """The source in short; a file with its folder, since every run has a network.json."""
        if self.source.startswith("zoo:"):
            return self.source.removeprefix("zoo:")
        return "/".join(Path(self.source).parts[-2:])

    def workload(self, device: Device) -> Workload | None:
        """What a device runs; None if there is no file of the network for its runtime."""
        if self.model is None:
            return None if self.network.kernels else Workload(self.source, self.network.ops)
        runs = device.suffix == ".onnx"
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
        network = read_network(
            source, target.batch, fusion, input_shape, resolution, opened=content
        )
        if network.batch != target.batch:
            raise UsageError(
                f"{source} takes {network.batch} image(s) at once, and {target.name} is measured "
                f"at {target.batch}: compare networks of one batch size"
            )
        is_onnx_file = bool(network.kernels) and not source.startswith("zoo:")
        model = _with_sizes(Path(source), input_shape, network.batch) if is_onnx_file else None
        found.append(Contender(source, network, model))
    return found


def _with_sizes(path: Path, input_shape: str | None, batch: int) -> bytes:
    """An ONNX file with the sizes of its inputs and outputs, where it leaves them open."""
    import onnx

    content = read_file(path, MOST_BYTES, SpecError)
    shapes = parse_graph(content, str(path), sizes_of(input_shape), batch).shapes
    model = onnx.ModelProto.FromString(content)
    is_open = False
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes and [d.dim_value for d in dims] != [*shapes[value.name]]:
            is_open = True
            del dims[:]
            for size in shapes[value.name]:
                dims.add().dim_value = size
    return model.SerializeToString() if is_open else content


def compare(
    target: Target,
    contenders: Sequence[Contender],
    against: Contender,
    extrapolate: bool,
    on_progress: OnProgress = lambda progress: None,
) -> list[Row]:
    """The latency of each network on the target, and its ratio to that of the network `against`.

    If the device is at hand, all of them are measured in every round of the same processes, so that
    a disturbance of the machine affects all alike; the ratio's interval is that of the median over
    rounds. If there is a table, they are predicted.
    """
    notes: dict[str, list[str]] = {contender.source: [] for contender in contenders}
    predicted = _predict(target.table, contenders, extrapolate, notes)
    measured: Mapping[str, Measurement] = {}
    ratios: Mapping[str, Ratio] = {}
    if target.at_hand is not None:
        device, card = target.at_hand
        kept = Kept()
        found = _measure(device, card.measuring, contenders, notes, kept, on_progress)
        measured = found.rows
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
    table: LatencyTable | None,
    contenders: Sequence[Contender],
    extrapolate: bool,
    notes: Mapping[str, list[str]],
) -> dict[str, Prediction]:
    """Predictions from the target's table, for the networks that it covers."""
    found: dict[str, Prediction] = {}
    if table is None:
        return found
    model = fit(table, extrapolate=extrapolate)
    for contender in contenders:
        try:
            found[contender.source] = model.predict(contender.network)
        except CoverageError as error:
            notes[contender.source].append(f"not predicted: {error}")
    return found


def _measure(
    device: Device,
    measuring: Measuring,
    contenders: Sequence[Contender],
    notes: Mapping[str, list[str]],
    kept: Kept,
    on_progress: OnProgress,
) -> Measured:
    """Measured to half the interval that the card asks for operators, with pauses between
    processes, so that a machine's slow moments pass."""
    rule = measuring.model_copy(
        update={
            "network_ci95": measuring.ci95 / 2,
            "max_network_samples": max(measuring.max_network_samples, measuring.max_samples),
            "pause_seconds": max(1.0, measuring.pause_seconds),
        }
    )
    workloads = []
    for contender in contenders:
        workload = contender.workload(device)
        if workload is not None:
            workloads.append(workload)
        else:
            runtime = device.setting.runtime
            notes[contender.source].append(f"not measured: {runtime} cannot be given its graph")
    measured = measure(device, workloads, rule, kept, on_progress)
    for source, error in measured.failures.items():
        notes[source].append(f"not measured: {error}")
    return measured


def _measured_ratios(samples: Iterable[Sample], against: str) -> dict[str, Ratio]:
    """The ratio of each workload to the one named `against`, over the rounds that measured both:
    the median of their logarithms, clustered by process (`latency.stats.clustered_median`)."""
    rounds: dict[tuple[int, int], dict[str, float]] = {}
    for sample in samples:
        rounds.setdefault((sample.session, sample.round), {})[sample.workload] = math.log(sample.ms)
    logs: dict[str, dict[int, list[float]]] = {}
    for (session, _), logs_ms in rounds.items():
        for name in logs_ms if against in logs_ms else ():
            difference = logs_ms[name] - logs_ms[against]
            logs.setdefault(name, {}).setdefault(session, []).append(difference)
    ratios = {}
    for name, by_session in logs.items():
        middle, half = clustered_median(list(by_session.values()))
        ratios[name] = Ratio(*np.exp([middle, middle - half, middle + half]).tolist())
    return ratios
