"""Each layer as nodes of a TensorFlow Lite graph."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from devices.export.onnx_model import Weights
from devices.export.tflite_graph import Code, Graph, Node, Tensor
from latency.errors import SpecError
from latency.operators.kinds import Layer

_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
"""Activations that are a field of the node before them."""

_NOT_FUSING = (
    *("concat", "slice", "pad", "shuffle", "transpose", "resize", "softmax", "identity"),
)
"""Layers whose nodes have no such field."""


class Writer:
    """Appends the layers of operators to a graph."""

    def __init__(self, graph: Graph, weights: Weights, batch: int, integer: bool) -> None:
        self.graph = graph
        self.weights = weights
        self.batch = batch
        self.integer = integer

    def layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append a layer and its activation; returns the name of its output."""
        return self._activation(name, layer, self._layer(name, layer, inputs))

    def tensor(self, name: str, shape: tuple[int, ...]) -> str:
        """Declare what a node will compute; its shape without the batch. Returns the name."""
        self.graph.tensors[name] = Tensor(name, (self.batch, *shape))
        return name

    def _constant(self, name: str, value: NDArray) -> str:
        self.graph.tensors[name] = Tensor(name, value.shape, np.ascontiguousarray(value))
        return name

    def _node(
        self,
        code: int,
        name: str,
        inputs: tuple[str, ...],
        shape: tuple[int, ...],
        options: Any,
        version: int = 1,
    ) -> str:
        output = self.tensor(name, shape)
        self.graph.nodes.append(Node(code, inputs, output, options, version))
        return name

    def _layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append the layer, with its activation where that can be fused."""
        fused = _FUSED.get(layer.activation, _FUSED["none"])
        shape: tuple[int, ...] = layer.out_shape
        if layer.kind == "conv":
            return self._conv(name, layer, inputs, fused)
        if layer.kind == "conv_transpose":
            return self._conv_transpose(name, layer, inputs, fused)
        if layer.kind in ("linear", "matmul"):
            parameters = self._parameters(name, layer, (0, 1))
            keeps = layer.kind == "matmul"
            options = schema.FullyConnectedOptionsT(fused, keepNumDims=keeps)
            shape, version = (shape, 5) if keeps else (shape[2:], 1)
            code = Code.FULLY_CONNECTED
            return self._node(code, name, inputs + parameters, shape, options, version)
        if layer.kind in ("pool", "max_pool", "avg_pool"):
            return self._pool(name, layer, inputs, fused)
        if layer.kind == "add":
            return self._node(Code.ADD, name, inputs, shape, schema.AddOptionsT(fused))
        if layer.kind == "multiply":
            return self._node(Code.MUL, name, inputs, shape, schema.MulOptionsT(fused))
        if layer.kind == "norm":
            weight, bias = self._parameters(name, layer, (0,))
            scaled = (*inputs, weight)
            product = self._node(Code.MUL, f"{name}.scaled", scaled, shape, schema.MulOptionsT())
            return self._node(Code.ADD, name, (product, bias), shape, schema.AddOptionsT(fused))
        if layer.kind == "layer_norm":
            return self._layer_norm(name, layer, inputs[0], fused)
        if layer.kind == "concat":
            options = schema.ConcatenationOptionsT(axis=3)
            return self._node(Code.CONCATENATION, name, inputs, shape, options)
        if layer.kind == "slice":
            return self._slice(name, inputs[0], (0, 0, layer.start), layer.out_shape)
        if layer.kind == "pad":
            more = layer.out_shape[2] - layer.in_shape[2]
            amounts = np.array([(0, 0), (0, 0), (0, 0), (0, more)], np.int32)
            return self._pad(name, layer, amounts, inputs[0])
        if layer.kind == "shuffle":
            return self._shuffle(name, layer, inputs[0])
        if layer.kind == "transpose":
            axes = self._constant(f"{name}.axes", np.array([0, 2, 3, 1], np.int32))
            options = schema.TransposeOptionsT()
            return self._node(Code.TRANSPOSE, name, (*inputs, axes), shape, options)
        if layer.kind == "resize":
            size = self._constant(f"{name}.size", np.array(shape[:2], np.int32))
            options = schema.ResizeNearestNeighborOptionsT()
            return self._node(Code.RESIZE_NEAREST_NEIGHBOR, name, (*inputs, size), shape, options)
        if layer.kind == "softmax":
            return self._node(Code.SOFTMAX, name, inputs, shape, schema.SoftmaxOptionsT(beta=1.0))
        if layer.kind == "identity":
            return inputs[0]
        raise SpecError(f"layer {name}: a '{layer.kind}' cannot be written to a TFLite file")

    def _pool(self, name: str, layer: Layer, inputs: tuple[str, ...], fused: int) -> str:
        is_global = layer.kernel == layer.in_shape[:2] and layer.activation == "none"
        if layer.kind == "pool" and self.integer and is_global:
            axes = self._constant(f"{name}.axes", np.array([1, 2], np.int32))
            options = schema.ReducerOptionsT(keepDims=True)
            return self._node(Code.MEAN, name, (*inputs, axes), layer.out_shape, options)
        code, padding = Code.AVERAGE_POOL_2D, schema.Padding.VALID
        if layer.kind == "avg_pool":  # SAME, of stride 1, counts the pixels that are there
            padding = schema.Padding.SAME
        if layer.kind == "max_pool":
            code, half = Code.MAX_POOL_2D, (layer.kernel[0] - 1) // 2
            padding, surround = _padding(layer, (half, half))
            if surround is not None:
                least = np.array([np.finfo(np.float32).min])
                inputs = (self._pad(f"{name}.pad", layer, surround, inputs[0], least),)
        sizes = (layer.stride, layer.stride, *layer.kernel[::-1])
        options = schema.Pool2DOptionsT(padding, *sizes, fused)
        return self._node(code, name, inputs, layer.out_shape, options)

    def _conv(self, name: str, layer: Layer, inputs: tuple[str, ...], fused: int) -> str:
        options: Any
        padding, zeros = _padding(layer, layer.padding[:2])
        if zeros is not None:
            inputs = (self._pad(f"{name}.pad", layer, zeros, inputs[0]),)
        strides, dilations, version = [layer.stride] * 2, [layer.dilation] * 2, 1
        if layer.groups == layer.in_shape[2] > 1:
            code, parameters = Code.DEPTHWISE_CONV_2D, self._parameters(name, layer, (1, 2, 3, 0))
            multiplier = layer.out_shape[2] // layer.groups
            options = schema.DepthwiseConv2DOptionsT(
                padding, *strides, multiplier, fused, *dilations
            )
            version = 1 if layer.dilation == 1 else 2
        else:
            code, parameters = Code.CONV_2D, self._parameters(name, layer, (0, 2, 3, 1))
            options = schema.Conv2DOptionsT(padding, *strides, fused, *dilations)
            version = 1 if layer.groups == 1 else 6
        return self._node(code, name, inputs + parameters, layer.out_shape, options, version)

    def _conv_transpose(self, name: str, layer: Layer, inputs: tuple[str, ...], fused: int) -> str:
        """SAME cuts off the smaller half before; where torch cuts off more there, all is computed
        and sliced."""
        before, after = layer.trimming
        padding, (height, width, channels) = schema.Padding.SAME, layer.out_shape
        if before > after >= 0:
            padding = schema.Padding.VALID
            height, width = height + before + after, width + before + after
        output, stride = name if padding == schema.Padding.SAME else f"{name}.whole", layer.stride
        size = np.array([self.batch, height, width, channels], np.int32)
        weight, bias = self._parameters(name, layer, (1, 2, 3, 0))
        parameters = (self._constant(f"{name}.shape", size), weight, *inputs, bias)
        options = schema.TransposeConvOptionsT(padding, stride, stride, fused)
        shape, version = (height, width, channels), 3 if fused == _FUSED["none"] else 4
        self._node(Code.TRANSPOSE_CONV, output, parameters, shape, options, version)
        if output == name:
            return name
        return self._slice(name, output, (before, before, 0), layer.out_shape)

    def _layer_norm(self, name: str, layer: Layer, source: str, fused: int) -> str:
        """By what the format has: the deviation from the mean, over the root of its square's."""
        if self.integer:
            raise SpecError(f"layer {name}: a 'layer_norm' has no int8 form; measure it in float32")
        shape, one = layer.out_shape, (*layer.out_shape[:2], 1)
        axis = self._constant(f"{name}.axis", np.array([3], np.int32))
        epsilon = self._constant(f"{name}.epsilon", np.array([1e-5], np.float32))
        weight, bias = self._parameters(name, layer, (0,))
        mean, squared = schema.ReducerOptionsT(keepDims=True), schema.SquaredDifferenceOptionsT()
        times, plus, minus = schema.MulOptionsT(), schema.AddOptionsT(), schema.SubOptionsT()
        for code, output, inputs, sizes, options in (
            (Code.MEAN, "mean", (source, axis), one, mean),
            (Code.SQUARED_DIFFERENCE, "squares", (source, f"{name}.mean"), shape, squared),
            (Code.MEAN, "variance", (f"{name}.squares", axis), one, mean),
            (Code.ADD, "shifted", (f"{name}.variance", epsilon), one, plus),
            (Code.RSQRT, "factor", (f"{name}.shifted",), one, None),
            (Code.SUB, "deviation", (source, f"{name}.mean"), shape, minus),
            (Code.MUL, "normal", (f"{name}.deviation", f"{name}.factor"), shape, times),
            (Code.MUL, "scaled", (f"{name}.normal", weight), shape, times),
        ):
            self._node(code, f"{name}.{output}", inputs, sizes, options)
        shifted = schema.AddOptionsT(fused)
        return self._node(Code.ADD, name, (f"{name}.scaled", bias), shape, shifted)

    def _shuffle(self, name: str, layer: Layer, source: str) -> str:
        """Channels of all groups in turn: as a matrix, transposed."""
        height, width, channels = layer.out_shape
        groups, each = layer.groups, channels // layer.groups
        axes = self._constant(f"{name}.axes", np.array([0, 1, 2, 4, 3], np.int32))
        grouped = self._reshape(f"{name}.grouped", source, (height, width, groups, each))
        turned = (height, width, each, groups)
        options = schema.TransposeOptionsT()
        source = self._node(Code.TRANSPOSE, f"{name}.turned", (grouped, axes), turned, options)
        return self._reshape(name, source, layer.out_shape)

    def _reshape(self, name: str, source: str, shape: tuple[int, ...]) -> str:
        sizes = np.array([self.batch, *shape], np.int32)
        inputs = (source, self._constant(f"{name}.sizes", sizes))
        options = schema.ReshapeOptionsT(newShape=sizes)
        return self._node(Code.RESHAPE, name, inputs, shape, options)

    def _slice(
        self, name: str, source: str, begin: tuple[int, int, int], shape: tuple[int, int, int]
    ) -> str:
        bounds = {"begin": (0, *begin), "size": (self.batch, *shape)}
        constants = (
            self._constant(f"{name}.{key}", np.array(value, np.int32))
            for key, value in bounds.items()
        )
        return self._node(Code.SLICE, name, (source, *constants), shape, schema.SliceOptionsT())

    def _parameters(self, name: str, layer: Layer, order: tuple[int, ...]) -> tuple[str, str]:
        """The layer's weight, its axes in this order, and its bias."""
        weight, bias = self.weights(name, layer)
        return (
            self._constant(f"{name}.weight", weight.transpose(order)),
            self._constant(f"{name}.bias", bias),
        )

    def _pad(
        self,
        name: str,
        layer: Layer,
        amounts: NDArray[np.int32],
        source: str,
        least: NDArray | None = None,
    ) -> str:
        """By zeros, or by the `least` number there is."""
        inputs: tuple[str, ...] = (source, self._constant(f"{name}.amounts", amounts))
        shape = tuple(np.add(layer.in_shape, amounts[1:].sum(1)).tolist())
        if least is None:
            return self._node(Code.PAD, name, inputs, shape, schema.PadOptionsT())
        inputs += (self._constant(f"{name}.least", least.astype(np.float32)),)
        return self._node(Code.PADV2, name, inputs, shape, schema.PadV2OptionsT())

    def _activation(self, name: str, layer: Layer, output: str) -> str:
        """Append the activation, unless it is fused into the layer's own node."""
        kind, named = layer.activation, f"{name}.{layer.activation}"
        shape = self.graph.tensors[output].shape[1:]
        times = schema.MulOptionsT()
        if kind in _FUSED and (kind == "none" or layer.kind not in _NOT_FUSING):
            return output
        if kind in ("relu", "relu6"):
            code = {"relu": Code.RELU, "relu6": Code.RELU6}[kind]
            return self._node(code, named, (output,), shape, None)
        if kind == "gelu":
            return self._node(Code.GELU, named, (output,), shape, schema.GeluOptionsT())
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
