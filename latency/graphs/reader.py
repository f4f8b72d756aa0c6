"""ONNX files, read as graphs of shapes: nodes, and the shape of every tensor, without weights.

Nothing of a file is executed. The size of a file's content is limited before it is parsed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.errors import SpecError
from latency.files import read_file
from latency.graphs.checks import check_model
from latency.graphs.folding import MOST_KEPT, infer_shapes, numbers_of

Sizes = tuple[int, ...]

MOST_BYTES = 2 << 30
"""No larger file is read: the format's own limit without external data."""
MOST_NUMBERS = 1 << 34
"""No tensor has more: a shape beyond it is a mistake, or an attack."""
_TELLS_SHAPES = ("Shape", "Size")
_PRECISIONS = {
    **{"FLOAT": "float32", "FLOAT16": "float16", "BFLOAT16": "bfloat16", "DOUBLE": "float64"},
    **{"INT8": "int8", "UINT8": "uint8"},
}
"""ONNX's names of the types that weights have, and a table's names of them."""


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
    """The `ModelProto` of an ONNX file, whose inputs may be open; `SpecError` for what is refused
    whatever they are."""
    return _parse(read_file(path, MOST_BYTES, SpecError), str(path))


def graph_of(model: Any, where: str, input_shape: Sequence[int] | None, batch: int) -> Graph:
    """As `read_graph`, of what `read_model` reads, whose inputs are closed; errors name `where`."""
    _fix_input(model.graph, where, input_shape, batch)
    model = infer_shapes(model, where)
    try:
        return _Reading(model.graph, where).graph()
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise SpecError(f"{where}: broken ONNX graph: {error!r}") from None


def _parse(content: bytes, where: str) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, RecursionError, ValueError):
        raise SpecError(f"{where}: not an ONNX file, or a damaged one") from None
    if not model.graph.node:
        raise SpecError(f"{where}: not an ONNX file, or one without a graph")
    check_model(model, where)
    return model


_OF_THE_FILE = (
    "only the first input's sizes can be given; write this one's into the file, as "
    "python -m onnxruntime.tools.make_dynamic_shape_fixed does"
)


def _fix_input(graph: Any, where: str, input_shape: Sequence[int] | None, batch: int) -> None:
    """Close the sizes of the inputs that the file leaves open."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if not inputs:
        raise SpecError(f"{where}: the network has no input")
    is_changed = False
    for position, value in enumerate(inputs):
        if not value.type.HasField("tensor_type"):
            raise SpecError(f"{where}: input '{value.name}' is not a tensor")
        dims = value.type.tensor_type.shape.dim
        known: list[int] = [dim.dim_value for dim in dims]
        if position == 0 and input_shape is not None:
            wanted = list(input_shape)
            fits = len(wanted) == len(known) or not known
            if not fits or any(
                a not in (0, b) for a, b in zip(known[1:], wanted[1:], strict=False)
            ):
                shown = "x".join(str(size or "?") for size in known)
                raise SpecError(
                    f"{where}: input '{value.name}' is {shown}, not {'x'.join(map(str, wanted))}"
                )
            known = wanted
        elif known and known[0] <= 0 and all(size > 0 for size in known[1:]):
            known[0] = batch
        if numbers_of(known) > MOST_NUMBERS:
            raise SpecError(f"{where}: input '{value.name}' of {tuple(known)} is too large")
        if not known or any(size <= 0 for size in known):
            shown = "x".join(str(size) if size > 0 else "?" for size in known) or "of no shape"
            remedy = _OF_THE_FILE if position else "say its sizes: --input-shape 1x3x224x224"
            raise SpecError(f"{where}: input '{value.name}' is {shown}; {remedy}")
        if known != [dim.dim_value for dim in dims]:
            is_changed = True
            del dims[:]
            for one in known:
                dims.add().dim_value = one
    if is_changed:
        del graph.value_info[:]
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")


class _Reading:
    """State while a graph is read."""

    def __init__(self, graph: Any, where: str) -> None:
        self.proto, self.where = graph, where
        self.shapes: dict[str, Sizes] = {}
        self.kinds: dict[str, int] = {}
        self.constants: dict[str, NDArray[Any] | None] = {}

    def graph(self) -> Graph:
        for value in (*self.proto.input, *self.proto.value_info, *self.proto.output):
            self._note(value)
        for tensor in self.proto.initializer:
            self.shapes[tensor.name] = tuple(tensor.dims)
            self.constants[tensor.name] = _value(tensor)
        nodes = tuple(self._nodes())
        inputs = tuple(v.name for v in self.proto.input if v.name not in self.constants)
        outputs = tuple(value.name for value in self.proto.output)
        name = self.proto.name or "network"
        precision = self._precision()
        return Graph(name, inputs, outputs, nodes, self.shapes, self.constants, precision)

    def _precision(self) -> str:
        from onnx import TensorProto

        written = (one.t for node in self.proto.node for one in node.attribute if one.HasField("t"))
        numbers = Counter(dict.fromkeys(_PRECISIONS, 0))
        for tensor in (*self.proto.initializer, *written):
            numbers[TensorProto.DataType.Name(tensor.data_type)] += numbers_of(tensor.dims)
        name = max(_PRECISIONS, key=lambda one: numbers[one])
        return _PRECISIONS[name] if numbers[name] else ""

    def _note(self, value: Any) -> None:
        kind = value.type.tensor_type
        self.kinds[value.name] = kind.elem_type
        if kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim):
            sizes = tuple(dim.dim_value for dim in kind.shape.dim)
            if numbers_of(sizes) > MOST_NUMBERS:
                raise SpecError(f"{self.where}: tensor '{value.name}' of {sizes} is too large")
            self.shapes[value.name] = sizes

    def _nodes(self) -> list[Node]:
        known = {value.name for value in self.proto.input} | set(self.constants) | {""}
        kept = []
        for position, proto in enumerate(self.proto.node):
            missing = [name for name in proto.input if name not in known]
            if missing:
                raise SpecError(
                    f"{self.where}: node '{proto.name or proto.op_type}' reads '{missing[0]}', "
                    "which nothing before it writes: the graph has a cycle, or is damaged"
                )
            twice = [name for name in proto.output if name and name in known]
            if twice:
                raise SpecError(f"{self.where}: tensor '{twice[0]}' is written twice")
            known.update(proto.output)
            if not self._is_constant(proto):
                kept.append(self._node(proto, position))
        return kept

    def _is_constant(self, proto: Any) -> bool:
        """Whether what a node writes does not depend on the input's values; it is noted then."""
        data = [name for name in proto.input if name]
        known = self.shapes if proto.op_type in _TELLS_SHAPES else self.constants
        if any(name not in known and name not in self.constants for name in data):
            return False
        value = None
        if proto.op_type == "Constant":
            for attribute in proto.attribute:
                if attribute.name == "value":
                    value = _value(attribute.t)
                    self.shapes[proto.output[0]] = tuple(attribute.t.dims)
                elif attribute.name in ("value_float", "value_int"):
                    value = np.array(
                        attribute.f if attribute.name == "value_float" else attribute.i
                    )
                    self.shapes[proto.output[0]] = ()
        elif proto.op_type in ("Identity", "Cast", "Unsqueeze", "Squeeze") and data:
            value = self.constants.get(data[0])
        self.constants.update(dict.fromkeys(proto.output, value))
        return True

    def _node(self, proto: Any, position: int) -> Node:
        from onnx import helper

        missing = [
            name
            for name in (*proto.input, *proto.output[:1])
            if name and name not in self.shapes and name not in self.constants
        ]
        if missing:
            raise SpecError(
                f"{self.where}: the shape of '{missing[0]}' ({proto.op_type} "
                f"'{proto.name}') depends on the input's values, or on an operator that ONNX "
                "does not define; only static shapes can be predicted"
            )
        attributes = {
            attribute.name: helper.get_attribute_value(attribute)
            for attribute in proto.attribute
            if not attribute.HasField("t") and not attribute.HasField("g")
        }
        name = proto.name or f"{proto.op_type}_{position}"
        stays = proto.op_type == "Cast" and self.kinds.get(proto.input[0]) == attributes["to"]
        kind = "Identity" if stays else proto.op_type
        return Node(kind, name, tuple(proto.input), tuple(proto.output), attributes)


def _value(tensor: Any) -> NDArray[Any] | None:
    """A small constant's value; None where it is large, elsewhere or broken."""
    from onnx import numpy_helper

    if numbers_of(tensor.dims) > MOST_KEPT or tensor.external_data:
        return None
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return None
