"""A TensorFlow Lite graph while it is written: constants, and the nodes that several kinds of
layers have."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from devices.export.onnx_model import Weights
from devices.export.tflite_graph import Code, Graph, Node, Tensor
from latency.errors import SpecError
from latency.operators.kinds import Layer

FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
"""Activations that may be a field of the node before them."""


class Writer:
    """Appends constants and nodes to a graph. Tensors are names; shapes are without the batch."""

    def __init__(self, graph: Graph, weights: Weights, batch: int, integer: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.batch = batch
        self.integer = integer

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare what a node will compute; its shape without the batch. Returns the name."""
        self.graph.tensors[name] = Tensor(name, (self.batch, *shape))
        return name

    def constant(self, name: str, value: NDArray) -> str:
        """Append a constant; returns its name."""
        self.graph.tensors[name] = Tensor(name, value.shape, np.ascontiguousarray(value))
        return name

    def node(
        self,
        code: int,
        name: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        options: Any,
        version: int = 1,
    ) -> str:
        """Append a node of one output of this shape; returns its name."""
        output = self.tensor(name, shape)
        self.graph.nodes.append(Node(code, inputs, output, options, version))
        return name

    def parameters(self, name: str, layer: Layer, order: tuple[int, ...]) -> tuple[str, str]:
        """The layer's weight, its axes in this order, and its bias."""
        weight, bias = self.weights(name, layer)
        return (
            self.constant(f"{name}.weight", weight.transpose(order)),
            self.constant(f"{name}.bias", bias),
        )

    def reshape(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        """The same numbers in another shape."""
        sizes = np.array([self.batch, *shape], np.int32)
        inputs = (source, self.constant(f"{name}.sizes", sizes))
        options = schema.ReshapeOptionsT(newShape=sizes)
        return self.node(Code.RESHAPE, name, inputs, shape, options)

    def slice(
        self, name: str, source: str, begin: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> str:
        """What begins at these indices, in this shape."""
        bounds = {"begin": (0, *begin), "size": (self.batch, *shape)}
        constants = (
            self.constant(f"{name}.{key}", np.array(value, np.int32))
            for key, value in bounds.items()
        )
        return self.node(Code.SLICE, name, (source, *constants), shape, schema.SliceOptionsT())

    def pad(
        self,
        name: str,
        layer: Layer,
        amounts: NDArray[np.int32],
        source: str,
        least: NDArray | None = None,
    ) -> str:
        """The layer's input with so much around it: zeros, or the `least` number there is."""
        inputs: tuple[str, ...] = (source, self.constant(f"{name}.amounts", amounts))
        shape = tuple(np.add(layer.in_shape, amounts[1:].sum(1)).tolist())
        if least is None:
            return self.node(Code.PAD, name, inputs, shape, schema.PadOptionsT())
        inputs += (self.constant(f"{name}.least", least.astype(np.float32)),)
        return self.node(Code.PADV2, name, inputs, shape, schema.PadV2OptionsT())

    def activation(self, name: str, layer: Layer, output: str, is_fused: bool) -> str:
        """Append the activation, unless it `is_fused` into the layer's own node."""
        kind, named = layer.activation, f"{name}.{layer.activation}"
        if kind == "none" or (is_fused and kind in FUSED):
            return output
        shape = self.graph.tensors[output].shape[1:]
        times = schema.MulOptionsT()
        if kind in ("relu", "relu6"):
            code = {"relu": Code.RELU, "relu6": Code.RELU6}[kind]
            return self.node(code, named, (output,), shape, None)
        if kind == "gelu":
            return self.node(Code.GELU, named, (output,), shape, schema.GeluOptionsT())
        if kind == "h_swish" and not self.integer:
            return self.node(Code.HARD_SWISH, named, (output,), shape, schema.HardSwishOptionsT())
        if kind in ("h_swish", "h_sigmoid"):
            three = self.constant(f"{named}.three", np.array([3], np.float32))
            sixth = self.constant(f"{named}.sixth", np.array([1 / 6], np.float32))
            clipped = schema.AddOptionsT(FUSED["relu6"])
            gate = self.node(Code.ADD, f"{named}.clip", (output, three), shape, clipped)
            if kind == "h_swish":
                gate = self.node(Code.MUL, f"{named}.gate", (output, gate), shape, times)
            return self.node(Code.MUL, named, (gate, sixth), shape, times)
        if kind not in ("sigmoid", "silu"):
            raise SpecError(f"layer {name}: '{kind}' cannot be written to a TFLite file")
        gate = self.node(Code.LOGISTIC, f"{name}.sigmoid", (output,), shape, None)
        if kind == "sigmoid":
            return gate
        return self.node(Code.MUL, named, (output, gate), shape, times)
