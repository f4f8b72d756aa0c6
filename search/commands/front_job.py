"""Networks from fastest to slowest out of one trained supernet, without training again."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from devices.device import Workload
from devices.measuring import measure
from latency.measurement import Measurement
from latency.network import NetworkSpec
from latency.whole_file import write_whole
from search.budget import macs_of_one
from search.commands.console import following, progress_bar, version
from search.commands.search_job import SearchJob
from search.evolution import Scored


@dataclass(frozen=True)
class Front:
    """Networks by rising budget; latencies in ms on the first target, accuracies as shares, with
    the supernet's weights on the validation images."""

    target: str
    space: str
    data: str
    seed: int
    seconds: float
    version: str
    networks: list[dict[str, Any]]


def find_front(job: SearchJob, count: int, quiet: bool) -> Front:
    """Networks for `count` budgets spread evenly from the fastest network of the job's space to
    the job's first budget, each network within the other budgets as well.

    Written to `pareto.json`, the networks to `pareto/`, and into the `result.json` of the run that
    is in the same folder, where there is one.
    """
    with progress_bar(quiet) as bar:
        search = job.search(bar, quiet)
        started = time.monotonic()
        task = bar.add_task("evolving networks", total=count)
        utility = search.supernet.log_probabilities.detach().double().cpu().numpy()
        evolution = job.evolution(search, utility)
        first, *others = job.budgets
        fastest = first.costs.fastest_ms
        top = max(fastest, min(first.limit, first.costs.slowest_ms))
        limits = np.linspace(fastest, top, count).tolist()
        found = []
        for scored in evolution.front(limits, [other.limit for other in others]):
            found.append(scored)
            bar.update(task, advance=1)
        networks = [job.space.network(scored.choices) for scored in found]
        measured = _measured(job, networks, bar)
    rows = [
        _row(job, limit, scored, network, measured.get(network.name))
        for limit, scored, network in zip(limits, found, networks, strict=True)
    ]
    seconds = time.monotonic() - started
    front = Front(first.name, job.space.tag, job.data.name, job.seed, seconds, version(), rows)
    _keep(front, networks, job.folder)
    return front


def _measured(job: SearchJob, networks: list[NetworkSpec], bar: Progress) -> dict[str, Measurement]:
    """What the first target says of them, by name; nothing where it is not at hand."""
    at_hand = job.goals[0].target.at_hand
    if at_hand is None:
        return {}
    device, card = at_hand
    workloads = [Workload.of_network(network) for network in dict.fromkeys(networks)]
    show = following(bar)
    return dict(measure(device, workloads, card.measuring, on_progress=show).rows)


def _row(
    job: SearchJob,
    limit: float,
    scored: Scored,
    network: NetworkSpec,
    measured: Measurement | None,
) -> dict[str, Any]:
    return {
        "budget_ms": limit,
        "choices": list(scored.choices),
        "predicted_ms": float(job.budgets[0].costs.predict(scored.choices)[0]),
        "measured_ms": measured.median_ms if measured else None,
        "measured_low_ms": measured.low_ms if measured else None,
        "measured_high_ms": measured.high_ms if measured else None,
        "valid_accuracy": scored.accuracy,
        "macs": macs_of_one(network),
        "params": network.params,
        "network": f"pareto/{network.name}.json",
    }


def _keep(front: Front, networks: list[NetworkSpec], folder: Path) -> None:
    for network in networks:
        write_whole(folder / "pareto" / f"{network.name}.json", network.to_json())
    write_whole(folder / "pareto.json", json.dumps(vars(front), indent=2) + "\n")
    result = folder / "result.json"
    if result.exists():
        content = json.loads(result.read_text()) | {"pareto": front.networks}
        write_whole(result, json.dumps(content, indent=2) + "\n")
