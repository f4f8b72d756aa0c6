"""The networks that commands take: published ones, and those of files."""

from collections.abc import Sequence
from pathlib import Path

from latency import zoo
from latency.errors import UsageError
from latency.kernels import Fusion, KernelGraph, kernels_of
from latency.network import NetworkSpec
from latency.onnx_graph import read_graph


def read_network(
    name: str,
    batch: int,
    fusion: Fusion,
    input_shape: str | None = None,
    resolution: int | None = None,
) -> NetworkSpec | KernelGraph:
    """The published network "zoo:NAME" on images of this resolution (its own where that is None), a
    network.json, or an ONNX file, split into kernels by the rules of a runtime.

    `input_shape`: "1x3x224x224", of an ONNX file that leaves it open. Raises `UsageError` for
    unknown names and `SpecError` for broken files.
    """
    if name.startswith("zoo:"):
        return zoo.load(name.removeprefix("zoo:"), resolution, batch, fusion)
    if Path(name).suffix == ".json":
        return NetworkSpec.load(name)
    return kernels_of(read_graph(name, sizes_of(input_shape), batch), fusion)


def sizes_of(text: str | None) -> Sequence[int] | None:
    """The sizes of --input-shape; `UsageError` for anything else."""
    if text is None:
        return None
    sizes = text.lower().split("x")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise UsageError(f"--input-shape {text}: sizes such as 1x3x224x224 are wanted")
    return [int(size) for size in sizes]
