"""`make bench`: measures what we promise, prints it as a table, keeps it as JSON.

    python benchmarks/run.py [names of benchmarks] [--quick]

Machines are shared and noisy: ratios are taken in one run, interleaved. `--quick` leaves out the
search with all defaults (a quarter of an hour).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import choosing
import fuzz
import loading
import measuring_devices
import million
import numpy as np
import scaling
import searching
import torch
import unseen
import worth
from command import answer
from figure import Figure
from memory import saved_bytes
from rich.console import Console
from rich.table import Table

from devices.card import load_card
from devices.connection import connect
from devices.device import Workload
from devices.measuring.rounds import measure
from latency import LatencyTable, machine, validate
from latency.modules import NetworkModule
from search import spaces
from search.settings import preset
from search.supernet.supernet import SuperNet
from search.training.optimizer import Cosines, WeightOptimizer

RESULTS = Path(__file__).parent / "results.json"
BATCH = 8


def profiling() -> Iterator[Figure]:
    """A profile of `proxyless`, twice: model files are written anew each time."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--device", "cpu", "--space", "proxyless", "--out", folder]
        for label, most in (("first", 60), ("again", 20)):
            found = answer("lat-profile", *words)
            yield Figure(f"lat-profile proxyless, {label}", found["wall_s"], most, unit="s")
            share = 100 * found["within_asked"]
            yield Figure(f"  operators within 1 %, {label}", share, unit="%")
            validation = found["validation"]["proxyless@224"]
            yield Figure("  its held-out mean error", 100 * validation["mean_error"], unit="%")


def table_error() -> Iterator[Figure]:
    """The shipped table against networks that no profile has seen, measured now."""
    space = spaces.load("proxyless")
    card = load_card("cpu")
    device = connect(card)
    table = LatencyTable.load(device.setting.stem)
    choices = space.random_choices(16, np.random.default_rng(12345))
    networks = [space.network(row.tolist()) for row in choices]
    long = {"min_samples": 60, "max_network_samples": 120, "sessions": 6, "pause_seconds": 3.0}
    measuring = card.measuring.model_copy(update={**long, "network_ci95": 0.01})
    measured = measure(device, [Workload.of_network(n) for n in networks], measuring)
    actual = [measured[network.name].median_ms for network in networks]
    predicted = np.array([table.predict(network).ms for network in networks])
    error = validate(predicted, actual)
    yield Figure("shipped table, 16 unseen networks: mean error", 100 * error.mean, 1.5, unit="%")
    yield Figure("  worst", 100 * error.worst, 5, unit="%")
    level = float(np.median(actual / predicted))
    yield Figure("  the machine's speed then over now", level)
    levelled = validate(predicted * level, actual)
    yield Figure("  mean error at equal speed", 100 * levelled.mean, unit="%")


def searches() -> Iterator[Figure]:
    """Three budgets spread over the feasible range of `mini`."""
    with tempfile.TemporaryDirectory() as folder:
        for share in ("25%", "50%", "75%"):
            words = ["--target", "cpu", "--space", "mini", "--budget", share]
            found = answer("lat-search", *words, "--out", f"{folder}/{share[:2]}")
            ratio = found["measured_ms"] / found["budget_ms"]
            yield Figure(f"lat-search mini, {share}: measured / budget", ratio, 1.0, 0.93)
            yield Figure("  wall clock", found["wall_s"], 180, unit="s")
            error = 100 * abs(found["predicted_ms"] / found["measured_ms"] - 1)
            yield Figure("  predicted against measured", error, unit="%")
            yield Figure("  test accuracy", 100 * found["test_accuracy"], unit="%")


def default_search() -> Iterator[Figure]:
    """`lat-search --target cpu --budget 5ms`, everything else as it comes."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--target", "cpu", "--budget", "5ms", "--out", f"{folder}/run"]
        found = answer("lat-search", *words)
    yield Figure("lat-search --budget 5ms, defaults: wall clock", found["wall_s"], 720, unit="s")
    ratio = found["measured_ms"] / found["budget_ms"]
    yield Figure("  measured / budget", ratio, 1.0, 0.93)
    yield Figure("  test accuracy", 100 * found["test_accuracy"], unit="%")


def supernet() -> Iterator[Figure]:
    """Memory and time of a supernet's steps over those of training the sampled network alone, on
    `proxyless` at 224 and on the largest path."""
    space = spaces.load("proxyless", classes=10)
    torch.manual_seed(0)
    net = SuperNet(space).to(memory_format=torch.channels_last)
    network = NetworkModule(space.network(space.largest).ops).to(memory_format=torch.channels_last)
    images = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (BATCH,))
    alone = saved_bytes(lambda: network(images), network)
    weight = saved_bytes(lambda: net(images, space.largest), net)
    yield Figure("saved for backward, weight step / network alone", weight / alone, 1.02)
    for name, sampled in (("two", _two_paths(space)), ("full", _all_paths(space))):
        gates = torch.zeros(sampled.shape, requires_grad=True)
        active = (sampled == torch.tensor(space.largest)[:, None]).int().argmax(1)
        step = saved_bytes(
            lambda s=sampled, g=gates, a=active: net.forward_gated(images, g, s, a), net
        )
        bound = 2.1 if name == "two" else None
        yield Figure(f"  `{name}` architecture step / network alone", step / alone, bound)
    settings = preset("proxyless")
    steps = [
        _stepper(lambda x: net(x, space.largest), net.weights(), settings, (images, labels)),
        _stepper(network, list(network.parameters()), settings, (images, labels)),
    ]
    ratios = []
    for _ in range(9):
        seconds = [step() for step in steps]
        ratios.append(seconds[0] / seconds[1])
    yield Figure("weight-step time / network alone, interleaved", float(np.median(ratios)), 1.1)


def _stepper(forward, parameters, settings, batch) -> Callable[[], float]:
    """A function that makes one weight step and tells its seconds."""
    optimizer = WeightOptimizer(parameters, settings, Cosines(((0.01, 1000),)))

    def step() -> float:
        start = time.perf_counter()
        optimizer.step(100, forward, *batch)
        return time.perf_counter() - start

    step()
    return step


def _two_paths(space) -> torch.Tensor:
    largest = torch.tensor(space.largest)
    return torch.stack([largest, (largest + 1) % torch.tensor(space.counts)], 1)


def _all_paths(space) -> torch.Tensor:
    width = torch.arange(max(space.counts))
    return torch.where(width < torch.tensor(space.counts)[:, None], width, -1)


def import_time() -> Iterator[Figure]:
    """`import latency` in a fresh interpreter, less the interpreter's own start."""

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - start

    pairs = [(seconds("import latency"), seconds("pass")) for _ in range(7)]
    yield Figure("import latency", float(np.median([a - b for a, b in pairs])), 0.4, unit="s")
    code = "import latency, sys; sys.exit('torch' in sys.modules)"
    loads_torch = subprocess.run([sys.executable, "-c", code], check=False).returncode
    yield Figure("  loads torch (1 yes, 0 no)", loads_torch, 0)


BENCHMARKS = {
    "import": import_time,
    **million.BENCHMARKS,
    "supernet": supernet,
    "profiling": profiling,
    **measuring_devices.BENCHMARKS,
    "unseen": unseen.unseen,
    "predict": unseen.predict_time,
    "fuzz": fuzz.fuzz,
    "table": table_error,
    "searches": searches,
    "loading": loading.loading,
    "worth": worth.worth,
    **choosing.BENCHMARKS,
    **searching.BENCHMARKS,
    **scaling.BENCHMARKS,
    "default": default_search,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], default=[])
    parser.add_argument("--quick", action="store_true", help="leave out the default search")
    asked = parser.parse_args()
    names = asked.names or [n for n in BENCHMARKS if not (asked.quick and n == "default")]
    shown = Table("figure", "measured", "bound", "holds")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names:
        figures = []
        for figure in BENCHMARKS[name]():
            figures.append(asdict(figure) | {"holds": figure.holds})
            bounds = [f">= {figure.least:g}"] if figure.least is not None else []
            bounds += [f"<= {figure.most:g}"] if figure.most is not None else []
            verdict = ("yes" if figure.holds else "NO") if bounds else ""
            said = f"{figure.value:.3g} {figure.unit}".strip()
            shown.add_row(figure.name, said, ", ".join(bounds), verdict)
            print(f"{figure.name}: {said}", file=sys.stderr, flush=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kept[name] = {"date": stamp, "hardware": machine.hardware(), "figures": figures}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
    Console().print(shown)


if __name__ == "__main__":
    main()
