"""The networks that commands take: published ones, and those of files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from latency import zoo
from latency.errors import UsageError
from latency.graphs.folding import MOST_NUMBERS
from latency.graphs.fusion import Fusion
from latency.graphs.kernels import Network, kernels_of
from latency.graphs.reader import graph_of, read_model
from latency.operators.network import NetworkSpec

_WEIGHTS_OF = {"tf32": "float32"}
"""The precision of the weights, where a precision applies to computing only."""


def open_network(name: str, input_shape: str | None = None) -> Any:
    """Read the file of this name, before a target is looked for: a `NetworkSpec`, or an ONNX file's
    `ModelProto`; None for a published network.

    Raises `UsageError` for unknown names and sizes, and `SpecError` for broken files.
    """
    sizes_of(input_shape)
    if name.startswith("zoo:"):
        zoo.check(name.removeprefix("zoo:"))
        return None
    return NetworkSpec.load(name) if Path(name).suffix == ".json" else read_model(name)


def read_network(
    name: str,
    batch: int,
    fusion: Fusion,
    input_shape: str | None = None,
    resolution: int | None = None,
    precision: str | None = None,
    opened: Any = None,
) -> Network:
    """The published network "zoo:NAME" on images of this resolution (None for its own), a
    network.json, or an ONNX file, split into kernels by the rules of a runtime.

    `input_shape`: "1x3x224x224", for an ONNX file that leaves it open. `precision`: that of the
    prediction; if the file's weights have another one, a warning of the network says so. `opened`:
    the result of `open_network`, if it has been called. Raises as it does.
    """
    if opened is None:
        opened = open_network(name, input_shape)
    if opened is None:
        return zoo.load(name.removeprefix("zoo:"), resolution, batch, fusion)
    if isinstance(opened, NetworkSpec):
        return opened
    file = graph_of(opened, name, sizes_of(input_shape), batch)
    graph = kernels_of(file, fusion)
    wanted = _WEIGHTS_OF.get(precision or "", precision)
    if wanted in (None, file.precision) or not file.precision:
        return graph
    warning = f"weights of {file.precision} are taken as {wanted}, the precision of the table"
    return replace(graph, warnings=(*graph.warnings, warning))


def read_network_on(
    name: str,
    batch: int,
    fusion: Fusion,
    input_shape: str | None,
    precision: str,
    opened: Any = None,
) -> Network:
    """As `read_network`, with `input_shape` for any network. Raises `UsageError` if the network
    cannot take it: published networks take square RGB images, a network.json has a fixed shape."""
    sizes, resolution = sizes_of(input_shape), None
    if sizes is not None and name.startswith("zoo:"):
        resolution = sizes[-1]
        if sizes != [batch, 3, resolution, resolution]:
            raise UsageError(
                f"`input_shape` {input_shape}: {name} takes square RGB images at the batch of the "
                f"table, such as {batch}x3x224x224"
            )
    network = read_network(name, batch, fusion, input_shape, resolution, precision, opened)
    if isinstance(network, NetworkSpec):
        height, width, channels = network.input_shape
        own = [network.batch, channels, height, width]
        if sizes not in (None, own):
            raise UsageError(
                f"`input_shape` {input_shape}: the input shape of {name} is fixed, "
                f"{'x'.join(map(str, own))}"
            )
    return network


def sizes_of(text: str | None) -> Sequence[int] | None:
    """The sizes of an input shape such as "1x3x224x224"; `UsageError` for anything else."""
    if text is None:
        return None
    sizes = [
        int(part) if part.isascii() and part.isdigit() and len(part) < 12 else 0
        for part in text.lower().split("x")
    ]
    if not all(0 < size <= MOST_NUMBERS for size in sizes):
        raise UsageError(f"`input_shape` {text[:80]}: must be sizes such as 1x3x224x224")
    return sizes
