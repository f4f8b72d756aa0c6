"""ONNX files, read as graphs of shapes: nodes, and the shape of every tensor, without weights.

Nothing of a file is executed. The size of a file's content is limited before it is parsed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from latency.errors import SpecError
from latency.files import read_file
from latency.graphs.checks import check_model
from latency.graphs.folding import MOST_NUMBERS, Sizes, Tensors, infer_shapes, numbers_of

MOST_BYTES = 2 << 30
"""No larger file is read: the format's own limit without external data."""
_PRECISIONS = ("float32", "float16", "bfloat16", "float64", "int8", "uint8")
"""Types that weights have."""


@dataclass(frozen=True)
class Node:
    """An operation on named tensors. `kind`: ONNX's name of it."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be executed; those that compute nothing but shapes or
    constants are left out. `shapes`: of every tensor, constants too. `constants`: names of the
    tensors that do not depend on the input, with their values where these are small. `precision`:
    of most weights, as tables name it; empty where there are none."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Sizes]
    constants: Mapping[str, NDArray[Any] | None]
    precision: str = ""


def read_graph(path: str | Path, input_shape: Sequence[int] | None = None, batch: int = 1) -> Graph:
    """The graph of an ONNX file.

    `input_shape`: of the first input, as the file has it ((batch, channels, height, width) for
    images), where the file leaves sizes open; an open first size alone is taken as `batch`.
    Raises `SpecError`, with the reason, for anything but a static graph of tensors.
    """
    return graph_of(read_model(path), str(path), input_shape, batch)


def parse_graph(
    content: bytes, where: str, input_shape: Sequence[int] | None = None, batch: int = 1
) -> Graph:
    """As `read_graph`, of a file's content; errors name `where`."""
    return graph_of(_parse(content, where), where, input_shape, batch)


def read_model(path: str | Path) -> Any:
    """The `ModelProto` of an ONNX file, before the sizes of its inputs are known. Raises
    `SpecError` for files that cannot be predicted whatever these are."""
    return _parse(read_file(path, MOST_BYTES, SpecError), str(path))


def graph_of(model: Any, where: str, input_shape: Sequence[int] | None, batch: int) -> Graph:
    """As `read_graph`, of the result of `read_model`, which it changes; errors name `where`."""
    try:
        _fix_input(model.graph, input_shape, batch)
        return _read(infer_shapes(model))
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise SpecError(f"{where}: broken ONNX graph: {error!r}") from None


def _parse(content: bytes, where: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
        if not model.graph.node:
            raise SpecError("not an ONNX file, or one without a graph")
        check_model(model)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except (DecodeError, RecursionError, ValueError):
        raise SpecError(f"{where}: not an ONNX file, or a damaged one") from None
    return model


_OF_THE_FILE = (
    "only the first input's sizes can be given; write this one's into the file, as "
    "python -m onnxruntime.tools.make_dynamic_shape_fixed does"
)


def _fix_input(graph: Any, input_shape: Sequence[int] | None, batch: int) -> None:
    """Set the sizes of the inputs that the file leaves open."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs:
        raise SpecError("the network has no input")
    is_changed = False
    for position, value in enumerate(inputs):
        dims = value.type.tensor_type.shape.dim
        known: list[int] = [dim.dim_value for dim in dims]
        sizes = list(known)
        if position == 0 and input_shape is not None:
            sizes = list(input_shape)
            closed = zip(known[1:], sizes[1:], strict=False)
            if known and (len(known) != len(sizes) or any(a not in (0, b) for a, b in closed)):
                raise SpecError(f"input '{value.name}' is {_shown(known)}, not {_shown(sizes)}")
        elif known and known[0] <= 0 and all(size > 0 for size in known[1:]):
            sizes[0] = batch
        if numbers_of(sizes) > MOST_NUMBERS:
            raise SpecError(f"input '{value.name}' of {tuple(sizes)} is too large")
        if not sizes or any(size <= 0 for size in sizes):
            remedy = _OF_THE_FILE if position else "give its sizes: `input_shape` 1x3x224x224"
            raise SpecError(f"input '{value.name}' is {_shown(known) or 'of no shape'}; {remedy}")
        if sizes != known:
            is_changed = True
            del dims[:]
            for size in sizes:
                dims.add().dim_value = size
    if is_changed:
        del graph.value_info[:]
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")


def _shown(sizes: Sequence[int]) -> str:
    return "x".join(str(size) if size > 0 else "?" for size in sizes)


def _read(model: Any) -> Graph:
    """The graph of a model of which ONNX has inferred the shapes."""
    graph, tensors = model.graph, Tensors(model)
    inputs = [value.name for value in graph.input]
    written = {*inputs, *tensors.constants, ""}
    nodes = []
    for position, proto in enumerate(graph.node):
        missing = [name for name in proto.input if name not in written]
        if missing:
            raise SpecError(
                f"node '{proto.name or proto.op_type}' reads '{missing[0]}', which nothing before "
                "it writes: the graph has a cycle, or is damaged"
            )
        twice = [name for name in proto.output if name and name in written]
        if twice:
            raise SpecError(f"tensor '{twice[0]}' is written twice")
        written.update(proto.output)
        if not tensors.visit(proto):
            nodes.append(_node(proto, position, tensors))
    return Graph(
        graph.name or "network",
        tuple(name for name in inputs if name not in tensors.constants),
        tuple(value.name for value in graph.output),
        tuple(nodes),
        tensors.shapes,
        tensors.constants,
        _precision(graph),
    )


def _precision(graph: Any) -> str:
    """The precision of most weights."""
    from onnx import helper

    written = (one.t for node in graph.node for one in node.attribute if one.HasField("t"))
    numbers: Counter[str] = Counter()
    for tensor in (*graph.initializer, *written):
        numbers[helper.tensor_dtype_to_np_dtype(tensor.data_type).name] += numbers_of(tensor.dims)
    most = max(_PRECISIONS, key=lambda name: numbers[name])
    return most if numbers[most] else ""


def _node(proto: Any, position: int, tensors: Tensors) -> Node:
    from onnx import helper

    needed = [name for name in (*proto.input, *proto.output[:1]) if name]
    missing = [n for n in needed if n not in tensors.shapes and n not in tensors.constants]
    if missing:
        raise SpecError(
            f"the shape of '{missing[0]}' ({proto.op_type} '{proto.name}') depends on the input's "
            "values, or on an operator that ONNX does not define; only static shapes can be "
            "predicted"
        )
    attributes = {
        attribute.name: helper.get_attribute_value(attribute)
        for attribute in proto.attribute
        if not attribute.HasField("t") and not attribute.HasField("g")
    }
    name = proto.name or f"{proto.op_type}_{position}"
    stays = proto.op_type == "Cast" and tensors.types.get(proto.input[0]) == attributes["to"]
    kind = "Identity" if stays else proto.op_type
    return Node(kind, name, tuple(proto.input), tuple(proto.output), attributes)
