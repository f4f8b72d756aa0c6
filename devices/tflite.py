"""Layers to TensorFlow Lite: the file that phones run, NHWC throughout.

Written straight from the operators' layers, as `devices.export` writes ONNX: the layers become
a `Graph` of tensors and nodes, which `devices.tflite_int8` may quantise before it is serialised.
No node transposes anything: the weights are stored as the format wants them.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from devices.export import Weights
from devices.tflite_graph import OUTPUT, Code, Graph, Node, Tensor, serialise
from latency.errors import SpecError
from latency.layers import INPUT, Layer
from latency.network import NetworkSpec
from latency.ops import OpSpec

_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
"""Activations that are a field of the node before them."""


def tflite_model(ops: Sequence[OpSpec], weights: Weights, name: str = "network") -> bytes:
    """The .tflite file of a chain of operators, in float32.

    Input "input": (batch, height, width, channels); output "output": (batch, height, width,
    channels), or (batch, features) after a linear operator. Raises `SpecError` where the
    operators don't form a chain.
    """
    return serialise(network_graph(ops, weights, name))


def network_graph(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", integer: bool = False
) -> Graph:
    """The graph that `tflite_model` writes; errors as there.

    `integer`: without HARD_SWISH and global AVERAGE_POOL_2D, which XNNPACK computes in float32
    only, but by operators that it computes in int8 too.
    """
    _check_chain(ops, name)
    first = ops[0]
    writer = _Writer(Graph(name), weights, first.batch, integer)
    current = writer.tensor(INPUT, (first.height, first.width, first.in_channels))
    for position, op in enumerate(ops):
        current = writer.add_operator(str(position), op, current)
    return _with_output(writer.graph, current)


def _check_chain(ops: Sequence[OpSpec], name: str) -> None:
    """Raise `SpecError` unless each operator takes what the one before it returns."""
    if not ops:
        raise SpecError(f"network '{name}' has no operators")
    NetworkSpec.of(name, tuple(ops))
    for position, (before, op) in enumerate(pairwise(ops), 1):
        where = f"network '{name}': operator {position} ({op.key})"
        if op.batch != before.batch:
            raise SpecError(f"{where} has batch {op.batch}, the one before it {before.batch}")
        if before.kind == "linear" and op.kind != "linear":
            raise SpecError(f"{where} does not take the (batch, features) of a linear operator")


def _with_output(graph: Graph, name: str) -> Graph:
    """The graph with this tensor, which its last node computes, under the name "output"."""
    graph.tensors[OUTPUT] = replace(graph.tensors.pop(name), name=OUTPUT)
    graph.nodes[-1] = replace(graph.nodes[-1], output=OUTPUT)
    return graph


class _Writer:
    """Appends the layers of operators to a graph."""

    def __init__(self, graph: Graph, weights: Weights, batch: int, integer: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.batch = batch
        self.integer = integer

    def add_operator(self, prefix: str, op: OpSpec, input_name: str) -> str:
        """Append the operator's layers; returns the name of its output."""
        outputs = {INPUT: input_name}
        for layer in op.layers:
            name = f"{prefix}.{layer.name}"
            inputs = tuple(outputs[source] for source in layer.inputs)
            outputs[layer.name] = self._activation(name, layer, self._layer(name, layer, inputs))
        return outputs[op.layers[-1].name]

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare what a node will compute; its shape without the batch. Returns the name."""
        self.graph.tensors[name] = Tensor(name, (self.batch, *shape))
        return name

    def _constant(self, name: str, value: NDArray) -> str:
        self.graph.tensors[name] = Tensor(name, value.shape, np.ascontiguousarray(value))
        return name

    def _node(
        self, code: int, name: str, inputs: tuple[str, ...], shape: tuple[int, ...], options: Any
    ) -> str:
        self.graph.nodes.append(Node(code, inputs, self.tensor(name, shape), options))
        return name

    def _layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append the layer, with its activation where that can be fused."""
        fused = _FUSED.get(layer.activation, _FUSED["none"])
        if layer.kind == "conv":
            return self._conv(name, layer, inputs, fused)
        if layer.kind == "linear":
            parameters = self._parameters(name, layer, (0, 1))
            options = schema.FullyConnectedOptionsT(fused)
            shape = layer.out_shape[2:]
            return self._node(Code.FULLY_CONNECTED, name, inputs + parameters, shape, options)
        is_global = layer.kernel == layer.in_shape[:2] and layer.activation == "none"
        if layer.kind == "pool" and self.integer and is_global:
            axes = self._constant(f"{name}.axes", np.array([1, 2], np.int32))
            options = schema.ReducerOptionsT(keepDims=True)
            return self._node(Code.MEAN, name, (*inputs, axes), layer.out_shape, options)
        if layer.kind == "pool":
            valid, stride = schema.Padding.VALID, layer.stride
            options = schema.Pool2DOptionsT(valid, stride, stride, *layer.kernel[::-1], fused)
            return self._node(Code.AVERAGE_POOL_2D, name, inputs, layer.out_shape, options)
        if layer.kind == "add":
            return self._node(Code.ADD, name, inputs, layer.out_shape, schema.AddOptionsT(fused))
        if layer.kind == "multiply":
            return self._node(Code.MUL, name, inputs, layer.out_shape, schema.MulOptionsT(fused))
        raise SpecError(f"layer {name}: a '{layer.kind}' cannot be written to a TFLite file")

    def _conv(self, name: str, layer: Layer, inputs: tuple[str, ...], fused: int) -> str:
        options: Any
        padding, zeros = schema.Padding.SAME, _zeros_around(layer)
        if zeros is not None:
            padding, inputs = (
                schema.Padding.VALID,
                (self._pad(f"{name}.pad", layer, zeros, *inputs),),
            )
        if layer.groups == layer.in_shape[2] > 1:
            code, parameters = Code.DEPTHWISE_CONV_2D, self._parameters(name, layer, (1, 2, 3, 0))
            multiplier = layer.out_shape[2] // layer.groups
            options = schema.DepthwiseConv2DOptionsT(
                padding, layer.stride, layer.stride, multiplier, fused
            )
        else:
            code, parameters = Code.CONV_2D, self._parameters(name, layer, (0, 2, 3, 1))
            options = schema.Conv2DOptionsT(padding, layer.stride, layer.stride, fused)
        return self._node(code, name, inputs + parameters, layer.out_shape, options)

    def _parameters(self, name: str, layer: Layer, order: tuple[int, ...]) -> tuple[str, str]:
        """The layer's weight, its axes in this order, and its bias."""
        weight, bias = self.weights(name, layer)
        return (
            self._constant(f"{name}.weight", weight.transpose(order)),
            self._constant(f"{name}.bias", bias),
        )

    def _pad(self, name: str, layer: Layer, zeros: NDArray[np.int32], source: str) -> str:
        amounts = self._constant(f"{name}.amounts", zeros)
        shape = tuple(np.add(layer.in_shape, zeros[1:].sum(1)).tolist())
        return self._node(Code.PAD, name, (source, amounts), shape, schema.PadOptionsT())

    def _activation(self, name: str, layer: Layer, output: str) -> str:
        """Append the activation, unless it is fused into the layer's own node."""
        kind, named = layer.activation, f"{name}.{layer.activation}"
        shape = self.graph.tensors[output].shape[1:]
        times = schema.MulOptionsT()
        if kind in _FUSED:
            return output
        if kind == "h_swish" and not self.integer:
            return self._node(Code.HARD_SWISH, named, (output,), shape, schema.HardSwishOptionsT())
        if kind in ("h_swish", "h_sigmoid"):
            three = self._constant(f"{named}.three", np.array([3], np.float32))
            sixth = self._constant(f"{named}.sixth", np.array([1 / 6], np.float32))
            clipped = schema.AddOptionsT(_FUSED["relu6"])
            gate = self._node(Code.ADD, f"{named}.clip", (output, three), shape, clipped)
            if kind == "h_swish":
                gate = self._node(Code.MUL, f"{named}.gate", (output, gate), shape, times)
            return self._node(Code.MUL, named, (gate, sixth), shape, times)
        if kind not in ("sigmoid", "silu"):
            raise SpecError(f"layer {name}: '{kind}' cannot be written to a TFLite file")
        gate = self._node(Code.LOGISTIC, f"{name}.sigmoid", (output,), shape, None)
        if kind == "sigmoid":
            return gate
        return self._node(Code.MUL, named, (output, gate), shape, times)


def _zeros_around(layer: Layer) -> NDArray[np.int32] | None:
    """What torch pads before and after the four axes of a convolution's input, as far as the
    windows reach; None where SAME does that. SAME pads as much as the windows need, the smaller
    half of it before, which for stride 2 on even sizes is less than half a kernel."""
    amounts, same = [(0, 0)], True
    for size, out, kernel in zip(layer.in_shape, layer.out_shape, layer.kernel, strict=False):
        needed, before = max(0, (out - 1) * layer.stride + kernel - size), kernel // 2
        amounts.append((before, max(0, needed - before)))
        same = same and needed // 2 == before
    return None if same else np.array([*amounts, (0, 0)], np.int32)
