"""A TensorFlow Lite file as a graph of tensors and nodes, and the bytes of it.

Written with the schema that LiteRT ships (schema.fbs of TensorFlow Lite, version 3).
"""

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from latency.operators.kinds import INPUT, OTHER

Code = schema.BuiltinOperator

OUTPUT = "output"

_INT8_VERSIONS = {
    **dict.fromkeys((Code.ADD, Code.MUL, Code.PAD, Code.MEAN, Code.AVERAGE_POOL_2D), 2),
    **dict.fromkeys((Code.CONV_2D, Code.DEPTHWISE_CONV_2D), 3),
    **dict.fromkeys((Code.LOGISTIC, Code.SOFTMAX, Code.GELU, Code.RELU, Code.RELU6), 2),
    **dict.fromkeys((Code.CONCATENATION, Code.SLICE, Code.TRANSPOSE), 2),
    **dict.fromkeys((Code.MAX_POOL_2D, Code.PADV2, Code.RESIZE_NEAREST_NEIGHBOR), 2),
    Code.FULLY_CONNECTED: 4,
}
"""The version since which an operator computes in int8."""


@dataclass(frozen=True)
class Quantisation:
    """real = scale * (stored - zero_point); one of each, or one for every index of `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """A constant (`data`), or what a node computes: float32, or int8 where it is quantised."""

    name: str
    shape: tuple[int, ...]
    data: NDArray | None = None
    quantisation: Quantisation | None = None

    @property
    def dtype(self) -> str:
        if self.data is not None:
            return str(self.data.dtype)
        return "int8" if self.quantisation else "float32"


@dataclass(frozen=True)
class Node:
    """A built-in operator, its inputs and output by name, its options in the schema, and the
    version since which it has what they ask for."""

    code: int
    inputs: tuple[str, ...]
    output: str
    options: Any
    version: int = 1


@dataclass
class Graph:
    """From tensor "input" to tensor "output"; nodes in order of execution. It may have a second
    input, "other"."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return (INPUT, OTHER) if OTHER in self.tensors else (INPUT,)


def serialise(graph: Graph) -> bytes:
    """The bytes of a .tflite file that holds this graph, with one signature of it."""
    tensors = list(graph.tensors.values())
    index = {tensor.name: position for position, tensor in enumerate(tensors)}
    buffers = [schema.BufferT()]  # number 0 stands for "no data"
    versions = dict(_INT8_VERSIONS) if graph.tensors[OUTPUT].dtype == "int8" else {}
    for node in graph.nodes:
        versions[node.code] = max(node.version, versions.get(node.code, 1))
    codes = sorted({node.code for node in graph.nodes})
    subgraph = schema.SubGraphT(
        tensors=[_packed_tensor(tensor, buffers) for tensor in tensors],
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
    """A buffer that starts at a multiple of 16 bytes, which the schema asks for."""

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802
        builder.Prep(16, len(self.data))
        return super().Pack(builder)


def _packed_tensor(tensor: Tensor, buffers: list[schema.BufferT]) -> schema.TensorT:
    """The tensor in the schema; its data is appended to `buffers`."""
    number, quantisation = 0, None
    if tensor.data is not None:
        number = len(buffers)
        buffers.append(_Aligned(tensor.data.ravel().view(np.uint8)))
    if tensor.quantisation is not None:
        quantisation = schema.QuantizationParametersT(
            scale=tensor.quantisation.scale,
            zeroPoint=tensor.quantisation.zero_point,
            quantizedDimension=tensor.quantisation.axis,
        )
    kind = getattr(schema.TensorType, tensor.dtype.upper())
    return schema.TensorT(list(tensor.shape), kind, number, tensor.name, quantisation)


def _packed_node(node: Node, index: dict[str, int], codes: list[int]) -> schema.OperatorT:
    kind = type(node.options).__name__.removesuffix("T")  # the class PadOptionsT packs PadOptions
    return schema.OperatorT(
        opcodeIndex=codes.index(node.code),
        inputs=[index[name] for name in node.inputs],
        outputs=[index[node.output]],
        builtinOptionsType=getattr(schema.BuiltinOptions, kind) if node.options else 0,
        builtinOptions=node.options,
    )
