"""Appends nodes and constants to a TensorFlow Lite graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import ArrayLike

from devices.export.onnx_model import Weights
from devices.export.tflite_graph import Code, Graph, Node, Tensor
from latency.operators.kinds import Layer

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

_ACTIVATIONS = {
    "relu": Code.RELU,
    "relu6": Code.RELU6,
    "gelu": Code.GELU,
    "sigmoid": Code.LOGISTIC,
    "h_swish": Code.HARD_SWISH,
}
"""Activations that are one node."""


class Writer:
    """A graph while it is written. Tensors are names, prefixed with `scope`, the layer's name in
    the network. Shapes are without the batch. `integer`: see `network_graph`."""

    def __init__(self, graph: Graph, weights: Weights, batch: int, integer: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.batch = batch
        self.integer = integer
        self.scope = ""

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare an input, or what a node will compute; returns the name."""
        self.graph.tensors[name] = Tensor(name, (self.batch, *shape))
        return name

    def constant(self, value: ArrayLike, dtype: type[np.generic] = np.int32, part: str = "") -> str:
        """Append a constant; returns its name."""
        name = f"{self.scope}.{part or len(self.graph.tensors)}"
        data = np.ascontiguousarray(value, dtype)
        self.graph.tensors[name] = Tensor(name, data.shape, data)
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
        return (
            self.constant(weight.transpose(order), np.float32, "weight"),
            self.constant(bias, np.float32, "bias"),
        )

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
                clip = schema.AddOptionsT(schema.ActivationFunctionType.RELU6)
                gate = self.node(Code.ADD, (x, three), part=f"{activation}.clip", options=clip)
                if activation == "h_swish":
                    gate = self.node(Code.MUL, (x, gate), part="h_swish.gate")
                return self.node(Code.MUL, (gate, sixth), part=activation)
        return self.node(_ACTIVATIONS[activation], (x,), part=activation)
