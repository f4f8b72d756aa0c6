"""Layers to TensorFlow Lite: the file that phones run, with channels last throughout.

The operators' layers become a `Graph`, which `devices.export.tflite_int8` may quantise before it is
serialised. Weights are stored in the format's order of axes, so that no node transposes anything
except in operators that do just that.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from devices.export.onnx_model import Weights, write_chain
from devices.export.tflite_graph import FUSED, OUTPUT, Code, Graph, Writer, serialise
from latency.errors import SpecError
from latency.operators.kinds import INPUT, Layer, input_shapes
from latency.operators.spec import OpSpec

_Write = Callable[[Writer, Layer, tuple[str, ...]], str]
"""Appends a layer with these inputs, without its activation; returns its output."""


def tflite_model(ops: Sequence[OpSpec], weights: Weights, name: str = "network") -> bytes:
    """The .tflite file of a chain of operators, in float32.

    Input "input": (batch, height, width, channels); output "output": (batch, height, width,
    channels), or (batch, features) after a linear operator. A single operator may have a second
    input "other" (`other_shape`). A `transpose` takes (batch, channels, height, width). Raises
    `SpecError` as `devices.export.onnx_model.check_chain`, and for a layer that the format does not
    have.
    """
    return serialise(network_graph(ops, weights, name))


def network_graph(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", integer: bool = False
) -> Graph:
    """The graph that `tflite_model` writes; errors as there.

    `integer`: replaces HARD_SWISH and global AVERAGE_POOL_2D, which XNNPACK computes in float32
    only, by operators that it also computes in int8.
    """
    first = ops[0]
    shapes = input_shapes(first)
    if first.layers[0].traits.turns:
        shapes[INPUT] = (first.in_channels, first.height, first.width)
    writer = Writer(Graph(name), weights, first.batch, integer)
    for tensor, shape in shapes.items():
        writer.tensor(tensor, shape)
    last = write_chain(ops, partial(_write_layer, writer))
    tensors, nodes = writer.graph.tensors, writer.graph.nodes
    tensors[OUTPUT] = tensors.pop(last)
    nodes[-1] = replace(nodes[-1], output=OUTPUT)
    return writer.graph


def _write_layer(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Append a layer and its activation; returns its output. Raises `SpecError` for a layer that
    the format does not have, or not in int8 where `writer.integer`."""
    if layer.kind not in _LAYERS:
        raise SpecError(f"layer {name}: a '{layer.kind}' cannot be written to a TFLite file")
    if writer.integer and layer.kind == "layer_norm":
        raise SpecError(f"layer {name}: a 'layer_norm' has no int8 form; measure it in float32")
    writer.scope = name
    first = len(writer.graph.nodes)
    output = _LAYERS[layer.kind](writer, layer, inputs)
    for node in reversed(writer.graph.nodes[first:] if layer.activation in FUSED else ()):
        if hasattr(node.options, "fusedActivationFunction") and node.code != Code.CONCATENATION:
            node.options.fusedActivationFunction = FUSED[layer.activation]
            return output
    return writer.activate(output, layer.activation)


def _node(
    code: int,
    constant: Callable[[Layer], Sequence[int]] | None = None,
    options: Callable[[Layer], Any] = lambda layer: None,
) -> _Write:
    """One node, with the layer's inputs and a constant."""

    def write(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
        if constant:
            inputs += (writer.constant(constant(layer)),)
        return writer.node(code, inputs, layer.out_shape, options=options(layer))

    return write


def _window(code: int, padding: int) -> _Write:
    """A pooling. SAME padding averages over the pixels inside the image."""
    return _node(
        code,
        options=lambda layer: schema.Pool2DOptionsT(
            padding, layer.stride, layer.stride, *layer.kernel[::-1]
        ),
    )


def _product(version: int, keeps_axes: bool) -> _Write:
    """A matrix product with the channels, of each pixel or of a flat input."""

    def write(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
        inputs += writer.parameters(layer, (0, 1))
        options = schema.FullyConnectedOptionsT(keepNumDims=keeps_axes)
        shape = layer.out_shape if keeps_axes else layer.out_shape[2:]
        return writer.node(Code.FULLY_CONNECTED, inputs, shape, options=options, version=version)

    return write


def _conv(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    options: Any
    padding, amounts = _padding(layer, layer.padding[:2])
    if amounts:
        inputs = (writer.pad(inputs[0], amounts, "pad"),)
    strides, dilations = [layer.stride] * 2, [layer.dilation] * 2
    if layer.groups == layer.in_shape[2] > 1:
        code, order, version = Code.DEPTHWISE_CONV_2D, (1, 2, 3, 0), 1 + (layer.dilation > 1)
        multiplier = layer.out_shape[2] // layer.groups
        options = schema.DepthwiseConv2DOptionsT(padding, *strides, multiplier, 0, *dilations)
    else:
        code, order, version = Code.CONV_2D, (0, 2, 3, 1), 1 if layer.groups == 1 else 6
        options = schema.Conv2DOptionsT(padding, *strides, 0, *dilations)
    inputs += writer.parameters(layer, order)
    return writer.node(code, inputs, layer.out_shape, options=options, version=version)


def _conv_transpose(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    """SAME padding crops the smaller half before. Where torch crops more before than after, the
    whole output is computed and sliced."""
    before, after = layer.trimming
    height, width, channels = shape = layer.out_shape
    padding, part = schema.Padding.SAME, ""
    if before > after >= 0:
        padding, part = schema.Padding.VALID, "whole"
        shape = (height + before + after, width + before + after, channels)
    size = writer.constant([writer.batch, *shape])
    weight, bias = writer.parameters(layer, (1, 2, 3, 0))
    options = schema.TransposeConvOptionsT(padding, layer.stride, layer.stride)
    version = 4 if layer.activation in FUSED else 3
    inputs = (size, weight, *inputs, bias)
    output = writer.node(Code.TRANSPOSE_CONV, inputs, shape, part, options, version)
    return writer.slice(output, (before, before, 0), layer.out_shape) if part else output


def _pool(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    is_global = layer.kernel == layer.in_shape[:2] and layer.activation == "none"
    if writer.integer and is_global:
        return writer.node(Code.MEAN, (*inputs, writer.constant([1, 2])), layer.out_shape)
    return _window(Code.AVERAGE_POOL_2D, schema.Padding.VALID)(writer, layer, inputs)


def _max_pool(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    half = (layer.kernel[0] - 1) // 2
    padding, amounts = _padding(layer, (half, half))
    if amounts:
        inputs = (writer.pad(inputs[0], amounts, "pad", float(np.finfo(np.float32).min)),)
    return _window(Code.MAX_POOL_2D, padding)(writer, layer, inputs)


def _norm(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    weight, bias = writer.parameters(layer, (0,))
    scaled = writer.node(Code.MUL, (*inputs, weight), part="scaled")
    return writer.node(Code.ADD, (scaled, bias))


def _layer_norm(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    """The format has no such operator: (x - mean) / sqrt(variance + epsilon) in single steps."""
    (x,) = inputs
    one = (*layer.out_shape[:2], 1)
    axis, epsilon = writer.constant([3]), writer.constant([1e-5], np.float32)
    weight, bias = writer.parameters(layer, (0,))
    mean = writer.node(Code.MEAN, (x, axis), one, "mean")
    squares = writer.node(Code.SQUARED_DIFFERENCE, (x, mean), part="squares")
    variance = writer.node(Code.MEAN, (squares, axis), one, "variance")
    shifted = writer.node(Code.ADD, (variance, epsilon), part="shifted")
    factor = writer.node(Code.RSQRT, (shifted,), part="factor")
    deviation = writer.node(Code.SUB, (x, mean), part="deviation")
    normal = writer.node(Code.MUL, (deviation, factor), part="normal")
    scaled = writer.node(Code.MUL, (normal, weight), part="scaled")
    return writer.node(Code.ADD, (scaled, bias))


def _shuffle(writer: Writer, layer: Layer, inputs: tuple[str, ...]) -> str:
    height, width, channels = layer.out_shape
    groups, each = layer.groups, channels // layer.groups
    grouped = writer.reshape(inputs[0], (height, width, groups, each), "grouped")
    axes = writer.constant([0, 1, 2, 4, 3])
    turned = writer.node(Code.TRANSPOSE, (grouped, axes), (height, width, each, groups), "turned")
    return writer.reshape(turned, layer.out_shape)


def _padding(layer: Layer, before: tuple[int, ...]) -> tuple[int, list[tuple[int, int]]]:
    """SAME; or VALID and the amounts to pad each axis with, where SAME is not what torch pads. SAME
    pads as much as the windows need, the smaller half of it before: for stride 2 on even sizes,
    that is less than half a kernel. `before`: what torch pads above and to the left."""
    amounts, is_same = [(0, 0)], True
    for axis in (0, 1):
        size, out = layer.in_shape[axis], layer.out_shape[axis]
        reach = (layer.kernel[axis] - 1) * layer.dilation + 1
        needed = max(0, (out - 1) * layer.stride + reach - size)
        amounts.append((before[axis], max(0, needed - before[axis])))
        is_same = is_same and needed // 2 == before[axis] and out == -(-size // layer.stride)
    if is_same:
        return schema.Padding.SAME, []
    return schema.Padding.VALID, [*amounts, (0, 0)] if np.any(amounts) else []


_LAYERS: dict[str, _Write] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _product(version=1, keeps_axes=False),
    "matmul": _product(version=5, keeps_axes=True),
    "pool": _pool,
    "max_pool": _max_pool,
    "avg_pool": _window(Code.AVERAGE_POOL_2D, schema.Padding.SAME),
    "add": _node(Code.ADD),
    "multiply": _node(Code.MUL),
    "norm": _norm,
    "layer_norm": _layer_norm,
    "concat": _node(Code.CONCATENATION),
    "slice": lambda writer, layer, inputs: writer.slice(
        inputs[0], (0, 0, layer.start), layer.out_shape
    ),
    "pad": lambda writer, layer, inputs: writer.pad(
        inputs[0], [(0, 0), (0, 0), (0, 0), (0, layer.out_shape[2] - layer.in_shape[2])]
    ),
    "shuffle": _shuffle,
    "transpose": _node(Code.TRANSPOSE, lambda layer: (0, 2, 3, 1)),
    "resize": _node(Code.RESIZE_NEAREST_NEIGHBOR, lambda layer: layer.out_shape[:2]),
    "softmax": _node(Code.SOFTMAX),
    "identity": lambda writer, layer, inputs: inputs[0],
}
"""Kind of layer to its nodes."""
