"""Layers to ONNX: the graph that is measured, and the one that is deployed.

Written with `onnx.helper` straight from the operators' layers, batch norm folded into its
convolution. Operator i's layer "project" has its weights under the name "i.project".
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from latency.layers import INPUT, Layer, Shape
from latency.ops import OpSpec

OPSET = 17
IR_VERSION = 9
"""Old enough for every ONNX Runtime of the last years, new enough for HardSwish."""

Weights = Callable[[str, Layer], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From a layer's name in the network, and the layer, to its (folded) weight and bias."""


def random_weights(seed: int = 0) -> Weights:
    """Normal weights scaled as He et al. (ICCV 2015), so that activations stay far from zero,
    infinity and denormal numbers, which some hardware computes at another speed. Layers of one
    shape share them."""
    generator = np.random.default_rng(seed)

    @cache
    def normal(shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
        weight = generator.standard_normal(shape, dtype=np.float32) * scale
        bias = generator.standard_normal(shape[0], dtype=np.float32) * np.float32(0.1)
        return weight, bias

    def draw(name: str, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return normal(layer.weight_shape)

    return draw


def onnx_model(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", half: bool = False
) -> bytes:
    """The serialised ONNX model of a chain of operators, in float32 or, with `half`, float16.

    Input "input": (batch, channels, height, width); output "output": (batch, channels, height,
    width), or (batch, features) after a linear operator.
    """
    kind = np.float16 if half else np.float32
    graph = _Graph(weights, kind)
    current = INPUT
    for position, op in enumerate(ops):
        current = graph.add_operator(str(position), op, current)
    graph.nodes.append(helper.make_node("Identity", [current], ["output"], name="output"))
    first, last = ops[0], ops[-1]
    inside = (first.height, first.width, first.in_channels)
    onnx_graph = helper.make_graph(
        graph.nodes,
        name,
        [_value("input", kind, first.batch, inside, flat=False)],
        [_value("output", kind, first.batch, last.out_shape, flat=last.kind == "linear")],
        graph.initializers,
    )
    model = helper.make_model(
        onnx_graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lat-search",
    )
    return model.SerializeToString()


def _value(
    name: str, kind: type[np.floating], batch: int, shape: Shape, flat: bool
) -> onnx.ValueInfoProto:
    height, width, channels = shape
    sizes = [batch, channels] if flat else [batch, channels, height, width]
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), sizes
    )


class _Graph:
    """Nodes and initialisers while a graph is written."""

    def __init__(self, weights: Weights, kind: type[np.floating]) -> None:
        self.weights = weights
        self.kind = kind
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add_operator(self, prefix: str, op: OpSpec, input_name: str) -> str:
        """Append the operator's layers; returns the name of its output."""
        outputs = {INPUT: input_name}
        for layer in op.layers:
            name = f"{prefix}.{layer.name}"
            inputs = [outputs[source] for source in layer.inputs]
            outputs[layer.name] = self._activation(name, layer, self._layer(name, layer, inputs))
        return outputs[op.layers[-1].name]

    def _node(self, kind: str, name: str, inputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: NDArray) -> str:
        self.initializers.append(numpy_helper.from_array(value.astype(self.kind), name))
        return name

    def _layer(self, name: str, layer: Layer, inputs: list[str]) -> str:
        if layer.kind in ("conv", "linear"):
            weight, bias = self.weights(name, layer)
            parameters = [
                self._constant(f"{name}.weight", weight),
                self._constant(f"{name}.bias", bias),
            ]
        if layer.kind == "conv":
            pad_height, pad_width = (size // 2 for size in layer.kernel)
            return self._node(
                "Conv",
                name,
                inputs + parameters,
                kernel_shape=list(layer.kernel),
                strides=[layer.stride, layer.stride],
                pads=[pad_height, pad_width, pad_height, pad_width],
                group=layer.groups,
            )
        if layer.kind == "linear":
            flat = self._node("Flatten", f"{name}.flat", inputs)
            return self._node("Gemm", name, [flat, *parameters], transB=1)
        if layer.kind == "pool":
            if layer.kernel == layer.in_shape[:2]:
                return self._node("GlobalAveragePool", name, inputs)
            strides = [layer.stride, layer.stride]
            return self._node(
                "AveragePool", name, inputs, kernel_shape=list(layer.kernel), strides=strides
            )
        return self._node({"add": "Add", "multiply": "Mul"}[layer.kind], name, inputs)

    def _activation(self, name: str, layer: Layer, output: str) -> str:
        kind, named = layer.activation, f"{name}.{layer.activation}"
        if kind == "none":
            return output
        if kind == "relu":
            return self._node("Relu", named, [output])
        if kind == "relu6":
            low = self._constant(f"{named}.low", np.array(0))
            high = self._constant(f"{named}.high", np.array(6))
            return self._node("Clip", named, [output, low, high])
        if kind == "h_swish":
            return self._node("HardSwish", named, [output])
        if kind == "h_sigmoid":
            return self._node("HardSigmoid", named, [output], alpha=1 / 6, beta=0.5)
        gate = self._node("Sigmoid", f"{name}.sigmoid", [output])
        return gate if kind == "sigmoid" else self._node("Mul", named, [output, gate])
