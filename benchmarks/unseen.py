"""What is promised of ONNX files: well-known CNNs that no table has seen."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figure import Figure
from unseen_models import MODELS, onnx_of

from devices.card import load_card
from devices.connection import connect
from devices.device import Workload
from devices.measuring.rounds import measure
from latency import CoverageError, LatencyTable, fit
from latency.graphs.kernels import KernelGraph, kernels_of
from latency.graphs.reader import read_graph


def unseen() -> Iterator[Figure]:
    """Each model predicted from the shipped table of this machine, and measured now."""
    card = load_card("cpu")
    device = connect(card)
    table = LatencyTable.load(device.setting.stem)
    graphs: dict[str, KernelGraph] = {}
    workloads = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (build, resolution) in MODELS.items():
            path = Path(folder) / f"{name}.onnx"
            path.write_bytes(onnx_of(build(), resolution))
            graphs[name] = kernels_of(read_graph(path), table.fusion_rules)
            workloads.append(Workload(name, graphs[name].ops, path.read_bytes()))
    rule = {"sessions": 3, "max_sessions": 3, "min_samples": 9, "max_network_samples": 18}
    measured = measure(device, workloads, card.measuring.model_copy(update=rule))
    model = fit(table)
    errors, covered = [], []
    refused = 0
    for name, graph in graphs.items():
        try:
            predicted, ms = model.predict(graph), measured[name].median_ms
        except CoverageError:
            refused += 1
            continue
        errors.append(predicted.ms / ms - 1)
        covered.append(predicted.low_ms <= ms <= predicted.high_ms)
        yield Figure(f"{name}: predicted against measured", 100 * errors[-1], unit="%")
    off = np.abs(errors)
    yield Figure("unseen models", len(graphs), least=20)
    yield Figure("  refused: too far from the suite", refused)
    for share, least in ((0.10, 95), (0.05, 70)):
        within = 100 * float(np.sum(off <= share)) / len(graphs)
        yield Figure(f"  within {100 * share:.0f} %", within, least=least, unit="%")
    yield Figure("  mean error", 100 * float(off.mean()), unit="%")
    level = float(np.exp(-np.median(np.log1p(errors))))
    levelled = np.abs(level * (1 + np.array(errors)) - 1)
    yield Figure("  the machine's speed then over now", level)
    for share in (0.10, 0.05):
        within = 100 * float(np.sum(levelled <= share)) / len(graphs)
        yield Figure(f"  within {100 * share:.0f} % at equal speed", within, unit="%")
    yield Figure("  within the 95 % interval", 100 * float(np.mean(covered)), unit="%")


def predict_time() -> Iterator[Figure]:
    """`lat-predict` of a ResNet-50 file, the whole command."""
    build, resolution = MODELS["resnet50"]
    device = connect(load_card("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.onnx"
        path.write_bytes(onnx_of(build(), resolution))
        script = Path(sys.executable).parent / "lat-predict"
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            words = [script, path, "--target", device.setting.stem, "--json"]
            subprocess.run(words, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    yield Figure("lat-predict of a ResNet-50 file", float(np.median(seconds)), 2.0, unit="s")
