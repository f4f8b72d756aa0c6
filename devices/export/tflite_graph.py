"""TensorFlow Lite graphs: tensors and nodes, their writer, and their bytes in a .tflite file.

The schema is that of LiteRT (schema.fbs of TensorFlow Lite, version 3).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike, NDArray

from devices.export.onnx_model import Weights
from latency.operators.kinds import INPUT, OTHER, Layer

Code = schema.BuiltinOperator

OUTPUT = "output"

WEIGHTED = (Code.CONV_2D, Code.DEPTHWISE_CONV_2D, Code.TRANSPOSE_CONV, Code.FULLY_CONNECTED)
"""Operators with a weight and a bias."""

_INT8_VERSIONS = dict(zip((*WEIGHTED, Code.RESHAPE), (3, 3, 3, 4, 1), strict=True))
"""The first version of an operator that supports int8; 2 for all others."""

_OPTIONS: dict[int, Callable[[], Any]] = {
    Code.ADD: schema.AddOptionsT,
    Code.CONCATENATION: partial(schema.ConcatenationOptionsT, axis=3),
    Code.GELU: schema.GeluOptionsT,
    Code.HARD_SWISH: schema.HardSwishOptionsT,
    Code.MEAN: partial(schema.ReducerOptionsT, keepDims=True),
    Code.MUL: schema.MulOptionsT,
    Code.PAD: schema.PadOptionsT,
    Code.PADV2: schema.PadV2OptionsT,
    Code.RESIZE_NEAREST_NEIGHBOR: schema.ResizeNearestNeighborOptionsT,
    Code.SLICE: schema.SliceOptionsT,
    Code.SOFTMAX: partial(schema.SoftmaxOptionsT, beta=1.0),
    Code.SQUARED_DIFFERENCE: schema.SquaredDifferenceOptionsT,
    Code.SUB: schema.SubOptionsT,
    Code.TRANSPOSE: schema.TransposeOptionsT,
}
"""Options of operators that always have the same ones."""

FUSED = {
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
"""Activations that can be a field of the node before them."""

_ACTIVATIONS = {
    "relu": Code.RELU,
    "relu6": Code.RELU6,
    "gelu": Code.GELU,
    "sigmoid": Code.LOGISTIC,
    "h_swish": Code.HARD_SWISH,
}
"""Activations that are one node."""


@dataclass(frozen=True)
class Tensor:
    """A constant (`data`), or what a node computes: float32, or int8 with a `quantisation`: real =
    scale * (stored - zero point), for all values or for each index of an axis."""

    shape: tuple[int, ...]
    data: NDArray | None = None
    quantisation: schema.QuantizationParametersT | None = None

    @property
    def dtype(self) -> str:
        if self.data is not None:
            return str(self.data.dtype)
        return "int8" if self.quantisation else "float32"


@dataclass(frozen=True)
class Node:
    """A built-in operator: its inputs and output by name, its options in the schema, and the first
    version that supports them."""

    code: int
    inputs: tuple[str, ...]
    output: str
    options: Any
    version: int = 1


@dataclass
class Graph:
    """Tensors by name, among them "input", "output" and, for some operators, a second input
    "other"; nodes in order of execution."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (INPUT, OTHER) if OTHER in self.tensors else (INPUT,)


@dataclass
class Writer:
    """A graph while it is written. Tensors are names, prefixed with `scope`, the layer's name in
    the network. Shapes are without the batch. `integer`: see `network_graph`."""

    graph: Graph
    weights: Weights
    batch: int
    integer: bool
    scope: str = ""

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare an input, or what a node will compute; returns the name."""
        self.graph.tensors[name] = Tensor((self.batch, *shape))
        return name

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.int32, part: str = "") -> str:
        """Append a constant; returns its name."""
        name = f"{self.scope}.{part or len(self.graph.tensors)}"
        data = np.ascontiguousarray(value, dtype)
        self.graph.tensors[name] = Tensor(data.shape, data)
        return name

    def node(
        self,
        code: int,
        inputs: tuple[str, ...],
        shape: tuple[int, ...] | None = None,
        part: str = "",
        options: Any = None,
        version: int = 1,
    ) -> str:
        """Append a node with one output, by default of the shape of its first input; returns its
        name: the layer's, or that of a `part` of it."""
        if shape is None:
            shape = self.graph.tensors[inputs[0]].shape[1:]
        output = self.tensor(f"{self.scope}.{part}" if part else self.scope, shape)
        if options is None and code in _OPTIONS:
            options = _OPTIONS[code]()
        self.graph.nodes.append(Node(code, inputs, output, options, version))
        return output

    def parameters(self, layer: Layer, order: tuple[int, ...]) -> tuple[str, str]:
        """The layer's weight, with its axes in this order, and its bias."""
        weight, bias = self.weights(self.scope, layer)
        stored = self.constant(weight.transpose(order), np.float32, "weight")
        return stored, self.constant(bias, np.float32, "bias")

    def reshape(self, x: str, shape: tuple[int, ...], part: str = "") -> str:
        sizes = np.array([self.batch, *shape], np.int32)
        options = schema.ReshapeOptionsT(newShape=sizes)
        return self.node(Code.RESHAPE, (x, self.constant(sizes)), shape, part, options)

    def slice(self, x: str, begin: tuple[int, int, int], shape: tuple[int, int, int]) -> str:
        """The part of this shape that begins at these indices."""
        bounds = (self.constant([0, *begin]), self.constant([self.batch, *shape]))
        return self.node(Code.SLICE, (x, *bounds), shape)

    def pad(self, x: str, amounts: ArrayLike, part: str = "", value: float = 0.0) -> str:
        """Pad with a value; `amounts`: (4, 2), before and after each axis."""
        shape = np.add(self.graph.tensors[x].shape, np.sum(amounts, 1))[1:]
        inputs: tuple[str, ...] = (x, self.constant(amounts))
        if value:
            inputs += (self.constant([value], np.float32),)
        return self.node(Code.PADV2 if value else Code.PAD, inputs, tuple(shape.tolist()), part)

    def activate(self, x: str, activation: str) -> str:
        """Append an activation as nodes of its own."""
        match activation:
            case "none":
                return x
            case "silu":
                gate = self.node(Code.LOGISTIC, (x,), part="sigmoid")
                return self.node(Code.MUL, (x, gate), part="silu")
            case "h_sigmoid" | "h_swish" if self.integer or activation == "h_sigmoid":
                three, sixth = (self.constant([value], np.float32) for value in (3, 1 / 6))
                clip = schema.AddOptionsT(FUSED["relu6"])
                gate = self.node(Code.ADD, (x, three), part=f"{activation}.clip", options=clip)
                if activation == "h_swish":
                    gate = self.node(Code.MUL, (x, gate), part="h_swish.gate")
                return self.node(Code.MUL, (gate, sixth), part=activation)
        return self.node(_ACTIVATIONS[activation], (x,), part=activation)


def serialise(graph: Graph) -> bytes:
    """The bytes of a .tflite file with this graph and one signature of it."""
    index = {name: position for position, name in enumerate(graph.tensors)}
    buffers = [schema.BufferT()]  # number 0 stands for "no data"
    codes = sorted({node.code for node in graph.nodes})
    is_int8 = graph.tensors[OUTPUT].dtype == "int8"
    versions = {code: _INT8_VERSIONS.get(code, 2) if is_int8 else 1 for code in codes}
    for node in graph.nodes:
        versions[node.code] = max(node.version, versions[node.code])
    subgraph = schema.SubGraphT(
        tensors=[_packed_tensor(*item, buffers) for item in graph.tensors.items()],
        inputs=[index[name] for name in graph.inputs],
        outputs=[index[OUTPUT]],
        operators=[_packed_node(node, index, codes) for node in graph.nodes],
        name=graph.name,
    )
    signature = schema.SignatureDefT(
        inputs=[schema.TensorMapT(name, index[name]) for name in graph.inputs],
        outputs=[schema.TensorMapT(OUTPUT, index[OUTPUT])],
        signatureKey="serving_default",
    )
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(min(code, 127), version=versions[code], builtinCode=code)
            for code in codes
        ],
        subgraphs=[subgraph],
        description="lat-search",
        buffers=buffers,
        signatureDefs=[signature],
    )
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _Aligned(schema.BufferT):
    """A buffer that starts at a multiple of 16 bytes, as the schema requires."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        builder.Prep(16, len(self.data))
        return super().Pack(builder)


def _packed_tensor(name: str, tensor: Tensor, buffers: list[schema.BufferT]) -> schema.TensorT:
    """The tensor in the schema; its data is appended to `buffers`."""
    number = 0
    if tensor.data is not None:
        number = len(buffers)
        buffers.append(_Aligned(tensor.data.ravel().view(np.uint8)))
    kind = getattr(schema.TensorType, tensor.dtype.upper())
    return schema.TensorT(list(tensor.shape), kind, number, name, tensor.quantisation)


def _packed_node(node: Node, index: dict[str, int], codes: list[int]) -> schema.OperatorT:
    kind = type(node.options).__name__.removesuffix("T")  # the class PadOptionsT packs PadOptions
    return schema.OperatorT(
        opcodeIndex=codes.index(node.code),
        inputs=[index[name] for name in node.inputs],
        outputs=[index[node.output]],
        builtinOptionsType=getattr(schema.BuiltinOptions, kind) if node.options else 0,
        builtinOptions=node.options,
    )
