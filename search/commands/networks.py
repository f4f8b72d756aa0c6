"""The networks that commands take: published ones, and those of files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from latency import zoo
from latency.errors import UsageError
from latency.kernels import Fusion, KernelGraph, kernels_of
from latency.network import NetworkSpec
from latency.onnx_graph import MOST_NUMBERS, read_graph, read_model

_WEIGHTS_OF = {"tf32": "float32"}
"""What the weights are where a precision is one of computing alone."""


def read_network(
    name: str,
    batch: int,
    fusion: Fusion,
    input_shape: str | None = None,
    resolution: int | None = None,
    precision: str | None = None,
) -> NetworkSpec | KernelGraph:
    """The published network "zoo:NAME" on images of this resolution (its own where that is None), a
    network.json, or an ONNX file, split into kernels by the rules of a runtime.

    `input_shape`: "1x3x224x224", of an ONNX file that leaves it open. `precision`: in which it is
    to be predicted; a file of weights of another one is told among its warnings. Raises
    `UsageError` for unknown names and `SpecError` for broken files.
    """
    if name.startswith("zoo:"):
        return zoo.load(name.removeprefix("zoo:"), resolution, batch, fusion)
    if Path(name).suffix == ".json":
        return NetworkSpec.load(name)
    file = read_graph(name, sizes_of(input_shape), batch)
    graph = kernels_of(file, fusion)
    wanted = _WEIGHTS_OF.get(precision or "", precision)
    if wanted in (None, file.precision) or not file.precision:
        return graph
    told = f"weights of {file.precision} are taken as {wanted}, the precision of the table"
    return replace(graph, warnings=(*graph.warnings, told))


def check_network(name: str, input_shape: str | None = None) -> None:
    """Raise what `read_network` would of the name, the file and the sizes, whatever the target:
    before that is looked for."""
    sizes_of(input_shape)
    if name.startswith("zoo:"):
        zoo.check(name.removeprefix("zoo:"))
    elif Path(name).suffix == ".json":
        NetworkSpec.load(name)
    else:
        read_model(name)


def read_network_on(
    name: str, batch: int, fusion: Fusion, input_shape: str | None, precision: str
) -> NetworkSpec | KernelGraph:
    """As `read_network`, on inputs of `input_shape` whatever the network is; `UsageError` where it
    cannot be: published networks take square RGB images, a network.json those that it says."""
    sizes = sizes_of(input_shape)
    if sizes is None or not (name.startswith("zoo:") or Path(name).suffix == ".json"):
        return read_network(name, batch, fusion, input_shape, precision=precision)
    if name.startswith("zoo:"):
        if sizes != [batch, 3, sizes[-1], sizes[-1]]:
            raise UsageError(
                f"--input-shape {input_shape}: {name} takes square images of 3 channels, "
                f"{batch} at once as the table does: {batch}x3x224x224"
            )
        return read_network(name, batch, fusion, resolution=sizes[-1])
    network = NetworkSpec.load(name)
    height, width, channels = network.input_shape
    own = [network.batch, channels, height, width]
    if sizes != own:
        raise UsageError(
            f"--input-shape {input_shape}: {name} is of {'x'.join(map(str, own))}, which is fixed; "
            "leave --input-shape out"
        )
    return network


def sizes_of(text: str | None) -> Sequence[int] | None:
    """The sizes of --input-shape; `UsageError` for anything else."""
    if text is None:
        return None
    words = text.lower().split("x")
    sizes = [
        int(word) if word.isascii() and word.isdigit() and len(word) < 12 else 0 for word in words
    ]
    if not all(0 < size <= MOST_NUMBERS for size in sizes):
        raise UsageError(f"--input-shape {text[:80]}: sizes such as 1x3x224x224 are wanted")
    return sizes
