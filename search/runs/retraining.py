"""Training a network from scratch: one that a search found, a published or an own one."""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from latency import zoo
from latency.atomic_file import write_whole
from latency.errors import UsageError, extra
from latency.operators.network import NetworkSpec
from search.budget import macs_of_one
from search.confirmation import export
from search.console import progress_bar, version
from search.data import Dataset
from search.runs.progress import show_steps
from search.runs.tasks import Task
from search.settings import RESUMABLE, SearchSettings
from search.spaces.bounds import check_options
from search.training.checkpoint import Checkpoint
from search.training.compute import ON_CPU, Compute
from search.training.network_training import NetworkTraining
from search.training.optimizer import accuracy


@dataclass(frozen=True)
class Trained:
    """`retrain.json`: a network trained from scratch. Accuracies as shares, `macs` of one input."""

    network: str
    data: str
    valid_accuracy: float
    test_accuracy: float
    macs: int
    params: int
    steps: int
    seconds: float
    seed: int
    settings: dict[str, object]
    version: str


def network_to_train(name: str, resolution: int | None, classes: int) -> NetworkSpec:
    """The network of a run's folder, a network.json or zoo:NAME, with a classifier of `classes`.

    Raises `UsageError` for an invalid resolution, and for a network that is not a chain of
    operators ending in a classifier.
    """
    check_options({"resolution": resolution})
    if name.startswith("zoo:"):
        network = zoo.load(name.removeprefix("zoo:"), resolution)
    else:
        path = Path(name)
        network = NetworkSpec.load(path / "network.json" if path.is_dir() else path)
    if not isinstance(network, NetworkSpec):
        raise UsageError(f"{name} is not a chain of operators, and cannot be trained")
    last = network.ops[-1]
    if last.kind != "linear":
        raise UsageError(f"{name} ends in {last.key}, not in a classifier")
    ops = (*network.ops[:-1], replace(last, out_channels=classes))
    return NetworkSpec.of(network.name, ops)


def space_of(network: NetworkSpec) -> str:
    """The name of the space that a network was found in; "" for other networks."""
    space, _, found = network.name.partition("@")
    return space if found else ""


def retrain(
    network: NetworkSpec,
    data: Dataset,
    settings: SearchSettings,
    seed: int,
    folder: Path,
    quiet: bool,
    compute: Compute = ON_CPU,
) -> Trained:
    """Train a network and evaluate it; `retrain.json`, `network.json`, `model.onnx` and
    `model.tflite` in `folder`. Resumes from the checkpoint there."""
    with extra("mobile"):
        from devices.export.tflite_model import tflite_model
    started = time.monotonic()
    task = Task(NetworkTraining, settings, {"network": network, "seed": seed})
    training = task.shared(data, compute)
    identity = {"network": network.to_json(), "data": data.name, "seed": seed, **settings.as_dict}
    with progress_bar(quiet) as bar:
        path = folder / "checkpoint" / "retrain.pt"
        checkpoint = Checkpoint(path, identity, may_change=RESUMABLE)
        training.run(checkpoint, show_steps(bar, "training the network"))
    resolution = network.input_shape[0]
    trained = Trained(
        network=network.name,
        data=data.name,
        valid_accuracy=accuracy(training.module, data.valid, resolution, settings.workers),
        test_accuracy=accuracy(training.module, data.test, resolution, settings.workers),
        macs=macs_of_one(network),
        params=network.params,
        steps=settings.train_steps,
        seconds=time.monotonic() - started,
        seed=seed,
        settings=settings.as_dict,
        version=version(),
    )
    write_whole(folder / "network.json", network.to_json())
    write_whole(folder / "model.onnx", export(network, training.module))
    mobile = tflite_model(network.ops, training.module.folded, network.name)
    write_whole(folder / "model.tflite", mobile)
    write_whole(folder / "retrain.json", json.dumps(asdict(trained), indent=2) + "\n")
    return trained
