"""Networks side by side on one target: measured in the same rounds, and predicted."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from devices.card import Measuring
from devices.device import Device, Workload
from devices.measuring.record import Burst
from devices.measuring.rounds import Kept, Measured, OnProgress, measure
from latency import fit
from latency.errors import CoverageError, SpecError, UsageError
from latency.files import read_file
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import KernelGraph
from latency.graphs.reader import MOST_BYTES, parse_graph
from latency.operators.network import NetworkSpec
from latency.prediction import Prediction
from latency.stats import clustered_median
from latency.tables.measurement import Measurement
from latency.tables.table import LatencyTable
from latency.zoo.chains import PUBLISHED
from search.jobs.networks import read_network, sizes_of
from search.jobs.targets import Target


@dataclass(frozen=True)
class Contender:
    """A network that is compared, by the word that named it.

    `model`: the ONNX file that it is, where it is one.
    """

    word: str
    spec: NetworkSpec | KernelGraph
    model: bytes | None = None

    @property
    def name(self) -> str:
        """The word, in short: of a file, its folder, too, as every run has a network.json."""
        if self.word.startswith("zoo:"):
            return self.word.removeprefix("zoo:")
        return "/".join(Path(self.word).parts[-2:])

    def workload(self, device: Device) -> Workload | None:
        """What a device runs; None where its runtime has no file of the network."""
        if self.model is None:
            is_chain = isinstance(self.spec, NetworkSpec)
            return Workload(self.word, self.spec.ops) if is_chain else None
        runs = device.suffix == ".onnx"
        return Workload(self.word, self.spec.ops, self.model) if runs else None


@dataclass(frozen=True)
class Ratio:
    """How many times as long as another network one takes, with its 95 % interval (none where it
    follows from predictions)."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ± {(self.high - self.low) / 2:.3f}"


@dataclass(frozen=True)
class Row:
    """What is known of a network on the target.

    `top1`: in %, published and not measured by us, and where. `notes`: why something is absent.
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
    """The networks of these names, each with what `open_network` has read of it.

    Raises `UsageError` where one computes another batch than the target.
    """
    fusion = target.table.fusion if target.table else USUAL
    found = []
    for word, content in opened.items():
        spec = read_network(word, target.batch, fusion, input_shape, resolution, opened=content)
        batch = spec.ops[0].batch
        if batch != target.batch:
            raise UsageError(
                f"{word} takes {batch} image(s) at once, and {target.name} is measured at "
                f"{target.batch}: compare networks of one batch size"
            )
        is_file = not word.startswith("zoo:") and isinstance(spec, KernelGraph)
        model = _with_sizes(Path(word), input_shape, batch) if is_file else None
        found.append(Contender(word, spec, model))
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
    """What each network takes on the target, and how many times as long as the network `against`.

    Measured where the device is at hand, all of them in every round of the same processes, so that
    what the machine does meanwhile happens to all; the ratio's interval is that of the median over
    rounds. Predicted where there is a table.
    """
    notes: dict[str, list[str]] = {contender.word: [] for contender in contenders}
    predicted = _predict(target.table, contenders, extrapolate, notes)
    measured: Mapping[str, Measurement] = {}
    ratios: Mapping[str, Ratio] = {}
    if target.at_hand is not None:
        device, card = target.at_hand
        kept = Kept()
        found = _measure(device, card.measuring, contenders, notes, kept, on_progress)
        measured = found.rows
        ratios = _measured_ratios(kept.bursts, against.word)
    elif against.word in predicted:
        reference = predicted[against.word].ms
        ratios = {word: Ratio(one.ms / reference) for word, one in predicted.items()}
    return [
        Row(
            contender,
            measured.get(contender.word),
            ratios.get(contender.word),
            predicted.get(contender.word),
            PUBLISHED.get(contender.name) if contender.word.startswith("zoo:") else None,
            tuple(notes[contender.word]),
        )
        for contender in contenders
    ]


def _predict(
    table: LatencyTable | None,
    contenders: Sequence[Contender],
    extrapolate: bool,
    notes: Mapping[str, list[str]],
) -> dict[str, Prediction]:
    """By the target's table, where it reaches."""
    found: dict[str, Prediction] = {}
    if table is None:
        return found
    model = fit(table, extrapolate=extrapolate)
    for contender in contenders:
        try:
            found[contender.word] = model.predict(contender.spec)
        except CoverageError as error:
            notes[contender.word].append(f"not predicted: {error}")
    return found


def _measure(
    device: Device,
    measuring: Measuring,
    contenders: Sequence[Contender],
    notes: Mapping[str, list[str]],
    kept: Kept,
    on_progress: OnProgress,
) -> Measured:
    """To half of what the card asks of operators; pauses between processes let a machine's slow
    moments pass."""
    rule = measuring.model_copy(
        update={
            "network_ci95": measuring.ci95 / 2,
            "max_network_bursts": max(measuring.max_network_bursts, measuring.max_bursts),
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
            notes[contender.word].append(f"not measured: {runtime} cannot be given its graph")
    measured = measure(device, workloads, rule, kept, on_progress)
    for word, error in measured.failures.items():
        notes[word].append(f"not measured: {error}")
    return measured


def _measured_ratios(bursts: Iterable[Burst], against: str) -> dict[str, Ratio]:
    """Of each workload to the one `against`, over the rounds that measured both: the median of
    their logarithms, clustered by process (`latency.stats.clustered_median`)."""
    rounds: dict[tuple[int, int], dict[str, float]] = {}
    for burst in bursts:
        rounds.setdefault((burst.sitting, burst.round), {})[burst.workload] = math.log(burst.ms)
    logs: dict[str, dict[int, list[float]]] = {}
    for (sitting, _), logs_ms in rounds.items():
        for word in logs_ms if against in logs_ms else ():
            difference = logs_ms[word] - logs_ms[against]
            logs.setdefault(word, {}).setdefault(sitting, []).append(difference)
    ratios = {}
    for word, by_sitting in logs.items():
        middle, half = clustered_median(list(by_sitting.values()))
        ratios[word] = Ratio(*np.exp([middle, middle - half, middle + half]).tolist())
    return ratios
