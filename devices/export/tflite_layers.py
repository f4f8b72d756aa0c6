"""Each kind of layer as nodes of a TensorFlow Lite graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from devices.export.tflite_graph import Code
from devices.export.tflite_writer import FUSED, Writer
from latency.errors import SpecError
from latency.operators.kinds import Layer

_Write = Callable[[Writer, str, Layer, tuple[str, ...]], str]
"""Appends a layer of this name that reads these tensors; returns the one that it computes."""


@dataclass(frozen=True)
class _Form:
    """How the format has a kind of layer.

    `fuses`: its last node has a field for the activations that may be fused, which `write` fills.
    `has_int8`: its nodes can be quantised.
    """

    write: _Write
    fuses: bool = True
    has_int8: bool = True


def write_layer(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Append a layer and its activation; returns the name of its output. `SpecError` where the
    format has no such layer, or none in int8 where the writer asks for that."""
    form = _FORMS.get(layer.kind)
    if form is None:
        raise SpecError(f"layer {name}: a '{layer.kind}' cannot be written to a TFLite file")
    if writer.integer and not form.has_int8:
        raise SpecError(f"layer {name}: a '{layer.kind}' has no int8 form; measure it in float32")
    output = form.write(writer, name, layer, inputs)
    return writer.activation(name, layer, output, form.fuses)


def _fused(layer: Layer) -> int:
    """The layer's activation as a field of its node: none where no such field can hold it."""
    return FUSED.get(layer.activation, FUSED["none"])


def _product(version: int, keeps_axes: bool) -> _Write:
    """A matrix product with the channels, of each pixel or of a flat input."""

    def write(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        inputs += writer.parameters(name, layer, (0, 1))
        options = schema.FullyConnectedOptionsT(_fused(layer), keepNumDims=keeps_axes)
        shape = layer.out_shape if keeps_axes else layer.out_shape[2:]
        return writer.node(Code.FULLY_CONNECTED, name, inputs, shape, options, version)

    return write


def _conv(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    options: Any
    padding, zeros = _padding(layer, layer.padding[:2])
    if zeros is not None:
        inputs = (writer.pad(f"{name}.pad", layer, zeros, inputs[0]),)
    strides, dilations, version = [layer.stride] * 2, [layer.dilation] * 2, 1
    if layer.groups == layer.in_shape[2] > 1:
        code, parameters = Code.DEPTHWISE_CONV_2D, writer.parameters(name, layer, (1, 2, 3, 0))
        multiplier = layer.out_shape[2] // layer.groups
        options = schema.DepthwiseConv2DOptionsT(
            padding, *strides, multiplier, _fused(layer), *dilations
        )
        version = 1 if layer.dilation == 1 else 2
    else:
        code, parameters = Code.CONV_2D, writer.parameters(name, layer, (0, 2, 3, 1))
        options = schema.Conv2DOptionsT(padding, *strides, _fused(layer), *dilations)
        version = 1 if layer.groups == 1 else 6
    return writer.node(code, name, inputs + parameters, layer.out_shape, options, version)


def _conv_transpose(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """SAME cuts off the smaller half before; where torch cuts off more there, all is computed
    and sliced."""
    before, after = layer.trimming
    padding, (height, width, channels) = schema.Padding.SAME, layer.out_shape
    if before > after >= 0:
        padding = schema.Padding.VALID
        height, width = height + before + after, width + before + after
    output, stride = name if padding == schema.Padding.SAME else f"{name}.whole", layer.stride
    size = np.array([writer.batch, height, width, channels], np.int32)
    weight, bias = writer.parameters(name, layer, (1, 2, 3, 0))
    parameters = (writer.constant(f"{name}.shape", size), weight, *inputs, bias)
    options = schema.TransposeConvOptionsT(padding, stride, stride, _fused(layer))
    shape, version = (height, width, channels), 3 if _fused(layer) == FUSED["none"] else 4
    writer.node(Code.TRANSPOSE_CONV, output, parameters, shape, options, version)
    if output == name:
        return name
    return writer.slice(name, output, (before, before, 0), layer.out_shape)


def _pool(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    is_global = layer.kernel == layer.in_shape[:2] and layer.activation == "none"
    if writer.integer and is_global:
        axes = writer.constant(f"{name}.axes", np.array([1, 2], np.int32))
        options = schema.ReducerOptionsT(keepDims=True)
        return writer.node(Code.MEAN, name, (*inputs, axes), layer.out_shape, options)
    return _window(writer, Code.AVERAGE_POOL_2D, schema.Padding.VALID, name, layer, inputs)


def _avg_pool(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """SAME, of stride 1, counts the pixels that are there."""
    return _window(writer, Code.AVERAGE_POOL_2D, schema.Padding.SAME, name, layer, inputs)


def _max_pool(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    half = (layer.kernel[0] - 1) // 2
    padding, surround = _padding(layer, (half, half))
    if surround is not None:
        least = np.array([np.finfo(np.float32).min])
        inputs = (writer.pad(f"{name}.pad", layer, surround, inputs[0], least),)
    return _window(writer, Code.MAX_POOL_2D, padding, name, layer, inputs)


def _window(
    writer: Writer, code: int, padding: int, name: str, layer: Layer, inputs: tuple[str, ...]
) -> str:
    sizes = (layer.stride, layer.stride, *layer.kernel[::-1])
    options = schema.Pool2DOptionsT(padding, *sizes, _fused(layer))
    return writer.node(code, name, inputs, layer.out_shape, options)


def _add(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    return writer.node(Code.ADD, name, inputs, layer.out_shape, schema.AddOptionsT(_fused(layer)))


def _multiply(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    return writer.node(Code.MUL, name, inputs, layer.out_shape, schema.MulOptionsT(_fused(layer)))


def _norm(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    weight, bias = writer.parameters(name, layer, (0,))
    scaled, shape = (*inputs, weight), layer.out_shape
    product = writer.node(Code.MUL, f"{name}.scaled", scaled, shape, schema.MulOptionsT())
    return _add(writer, name, layer, (product, bias))


def _layer_norm(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """By what the format has: the deviation from the mean, over the root of its square's."""
    (source,) = inputs
    shape, one = layer.out_shape, (*layer.out_shape[:2], 1)
    axis = writer.constant(f"{name}.axis", np.array([3], np.int32))
    epsilon = writer.constant(f"{name}.epsilon", np.array([1e-5], np.float32))
    weight, bias = writer.parameters(name, layer, (0,))
    mean, squared = schema.ReducerOptionsT(keepDims=True), schema.SquaredDifferenceOptionsT()
    times, plus, minus = schema.MulOptionsT(), schema.AddOptionsT(), schema.SubOptionsT()
    for code, output, reads, sizes, options in (
        (Code.MEAN, "mean", (source, axis), one, mean),
        (Code.SQUARED_DIFFERENCE, "squares", (source, f"{name}.mean"), shape, squared),
        (Code.MEAN, "variance", (f"{name}.squares", axis), one, mean),
        (Code.ADD, "shifted", (f"{name}.variance", epsilon), one, plus),
        (Code.RSQRT, "factor", (f"{name}.shifted",), one, None),
        (Code.SUB, "deviation", (source, f"{name}.mean"), shape, minus),
        (Code.MUL, "normal", (f"{name}.deviation", f"{name}.factor"), shape, times),
        (Code.MUL, "scaled", (f"{name}.normal", weight), shape, times),
    ):
        writer.node(code, f"{name}.{output}", reads, sizes, options)
    shifted = schema.AddOptionsT(_fused(layer))
    return writer.node(Code.ADD, name, (f"{name}.scaled", bias), shape, shifted)


def _concat(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    options = schema.ConcatenationOptionsT(axis=3)
    return writer.node(Code.CONCATENATION, name, inputs, layer.out_shape, options)


def _slice(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    return writer.slice(name, inputs[0], (0, 0, layer.start), layer.out_shape)


def _pad(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    more = layer.out_shape[2] - layer.in_shape[2]
    amounts = np.array([(0, 0), (0, 0), (0, 0), (0, more)], np.int32)
    return writer.pad(name, layer, amounts, inputs[0])


def _shuffle(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    """Channels of all groups in turn: as a matrix, transposed."""
    height, width, channels = layer.out_shape
    groups, each = layer.groups, channels // layer.groups
    axes = writer.constant(f"{name}.axes", np.array([0, 1, 2, 4, 3], np.int32))
    grouped = writer.reshape(f"{name}.grouped", inputs[0], (height, width, groups, each))
    turned = (height, width, each, groups)
    options = schema.TransposeOptionsT()
    turned_back = writer.node(Code.TRANSPOSE, f"{name}.turned", (grouped, axes), turned, options)
    return writer.reshape(name, turned_back, layer.out_shape)


def _transpose(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    axes = writer.constant(f"{name}.axes", np.array([0, 2, 3, 1], np.int32))
    options = schema.TransposeOptionsT()
    return writer.node(Code.TRANSPOSE, name, (*inputs, axes), layer.out_shape, options)


def _resize(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    size = writer.constant(f"{name}.size", np.array(layer.out_shape[:2], np.int32))
    options = schema.ResizeNearestNeighborOptionsT()
    inputs += (size,)
    return writer.node(Code.RESIZE_NEAREST_NEIGHBOR, name, inputs, layer.out_shape, options)


def _softmax(writer: Writer, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    options = schema.SoftmaxOptionsT(beta=1.0)
    return writer.node(Code.SOFTMAX, name, inputs, layer.out_shape, options)


def _padding(layer: Layer, before: tuple[int, ...]) -> tuple[int, NDArray[np.int32] | None]:
    """SAME; or, where that is not what torch pads, VALID and the amounts before and after the four
    axes of the input, as far as the windows reach. SAME pads as much as the windows need, the
    smaller half of it before, which for stride 2 on even sizes is less than half a kernel.
    `before`: what torch pads above and to the left."""
    amounts, is_same = [(0, 0)], True
    for axis in (0, 1):
        size, out = layer.in_shape[axis], layer.out_shape[axis]
        reach = (layer.kernel[axis] - 1) * layer.dilation + 1
        needed = max(0, (out - 1) * layer.stride + reach - size)
        amounts.append((before[axis], max(0, needed - before[axis])))
        is_same = is_same and needed // 2 == before[axis] and out == -(-size // layer.stride)
    if is_same:
        return schema.Padding.SAME, None
    surround = np.array([*amounts, (0, 0)], np.int32)
    return schema.Padding.VALID, surround if surround.any() else None


_FORMS = {
    "conv": _Form(_conv),
    "conv_transpose": _Form(_conv_transpose),
    "linear": _Form(_product(version=1, keeps_axes=False)),
    "matmul": _Form(_product(version=5, keeps_axes=True)),
    "pool": _Form(_pool),
    "max_pool": _Form(_max_pool),
    "avg_pool": _Form(_avg_pool),
    "add": _Form(_add),
    "multiply": _Form(_multiply),
    "norm": _Form(_norm),
    "layer_norm": _Form(_layer_norm, has_int8=False),
    "concat": _Form(_concat, fuses=False),
    "slice": _Form(_slice, fuses=False),
    "pad": _Form(_pad, fuses=False),
    "shuffle": _Form(_shuffle, fuses=False),
    "transpose": _Form(_transpose, fuses=False),
    "resize": _Form(_resize, fuses=False),
    "softmax": _Form(_softmax, fuses=False),
    "identity": _Form(lambda writer, name, layer, inputs: inputs[0], fuses=False),
}
"""Kind of layer to its nodes; the format has none of the kinds that are not here."""
