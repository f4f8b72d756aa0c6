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

from latency.errors import SpecError
from latency.layers import CHANNELS_LAST, INPUT, OTHER, STANDS_ALONE, Layer, Shape, other_shape
from latency.ops import OpSpec

OPSET = 17
IR_VERSION = 9
"""Old enough for every ONNX Runtime of the last years, new enough for HardSwish."""

Weights = Callable[[str, Layer], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""From a layer's name in the network, and the layer, to its (folded) weight and bias."""


def random_weights(seed: int = 0) -> Weights:
    """Normal weights scaled as He et al. (ICCV 2015), so that activations stay far from zero,
    infinity and denormal numbers, which some hardware computes at another speed. Layers of one
    shape share them, in whatever order networks are built."""

    @cache
    def normal(
        shape: tuple[int, ...], outputs: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        generator = np.random.default_rng([seed, outputs, *shape])
        scale = np.float32(np.sqrt(2 * outputs / np.prod(shape)))
        weight = generator.standard_normal(shape, dtype=np.float32) * scale
        bias = generator.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)
        return weight, bias

    def draw(name: str, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return normal(layer.weight_shape, layer.out_shape[2])

    return draw


def check_alone(ops: Sequence[OpSpec]) -> None:
    """Raise `SpecError` for a longer chain with an operator that stands alone: because it has a
    second input, or another order of axes."""
    for op in ops if len(ops) > 1 else ():
        if op.kind in STANDS_ALONE or other_shape(op) is not None:
            raise SpecError(f"{op.key}: a {op.kind} stands alone, in no chain of operators")


def is_channels_last(ops: Sequence[OpSpec]) -> bool:
    """Whether a chain works along the channels throughout, so that they are the last axis."""
    return ops[0].kind in CHANNELS_LAST and all(
        op.kind in (*CHANNELS_LAST, "activation") for op in ops
    )


def is_flat(ops: Sequence[OpSpec]) -> bool:
    """Whether a chain returns (batch, features), as a linear operator does."""
    return [op.kind for op in ops if op.kind != "activation"][-1:] == ["linear"]


def onnx_model(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", half: bool = False
) -> bytes:
    """The serialised ONNX model of a chain of operators, in float32 or, with `half`, float16.

    Input "input": (batch, channels, height, width); output "output": (batch, channels, height,
    width), or (batch, features) after a linear operator. Both are (batch, height, width,
    channels) where `is_channels_last`, and so is the output of a `transpose`. A single operator
    may have a second input "other" (`other_shape`). Raises `SpecError` for an operator that
    stands alone in a chain, or that only a runtime has.
    """
    check_alone(ops)
    kind = np.float16 if half else np.float32
    graph = _Graph(weights, kind, is_channels_last(ops))
    current = INPUT
    for position, op in enumerate(ops):
        current = graph.add_operator(str(position), op, current)
    graph.nodes.append(helper.make_node("Identity", [current], ["output"], name="output"))
    first, last = ops[0], ops[-1]
    shapes = {INPUT: (first.height, first.width, first.in_channels), OTHER: other_shape(first)}
    inputs = [
        _value(name, kind, _axes(first.batch, shape, graph.is_channels_last))
        for name, shape in shapes.items()
        if shape is not None
    ]
    axes = _axes(first.batch, last.out_shape, graph.is_channels_last or last.kind == "transpose")
    onnx_graph = helper.make_graph(
        graph.nodes,
        name,
        inputs,
        [_value("output", kind, axes[:2] if is_flat(ops) else axes)],
        graph.initializers,
    )
    model = helper.make_model(
        onnx_graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="lat-search",
    )
    return model.SerializeToString()


def _axes(batch: int, shape: Shape, is_channels_last: bool) -> list[int]:
    height, width, channels = shape
    if is_channels_last:
        return [batch, height, width, channels]
    return [batch, channels, height, width]


def _value(name: str, kind: type[np.floating], sizes: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), sizes
    )


class _Graph:
    """Nodes and initialisers while a graph is written."""

    def __init__(self, weights: Weights, kind: type[np.floating], is_channels_last: bool) -> None:
        self.weights = weights
        self.kind = kind
        self.is_channels_last = is_channels_last
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add_operator(self, prefix: str, op: OpSpec, input_name: str) -> str:
        """Append the operator's layers; returns the name of its output."""
        outputs = {INPUT: input_name, OTHER: OTHER}
        for layer in op.layers:
            name = f"{prefix}.{layer.name}"
            inputs = [outputs[source] for source in layer.inputs]
            outputs[layer.name] = self._activation(name, layer, self._layer(name, layer, inputs))
        return outputs[op.layers[-1].name]

    def _node(self, kind: str, name: str, inputs: list[str], **attributes) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: NDArray, kind: type | None = None) -> str:
        self.initializers.append(numpy_helper.from_array(value.astype(kind or self.kind), name))
        return name

    def _parameters(self, name: str, layer: Layer) -> list[str]:
        weight, bias = self.weights(name, layer)
        return [self._constant(f"{name}.weight", weight), self._constant(f"{name}.bias", bias)]

    def _layer(self, name: str, layer: Layer, inputs: list[str]) -> str:
        if layer.kind in CHANNELS_LAST:
            return self._along_channels(name, layer, inputs[0])
        if layer.kind in ("pool", "max_pool", "avg_pool", "conv", "conv_transpose"):
            return self._windows(name, layer, inputs)
        if layer.kind == "linear":
            flat = self._node("Flatten", f"{name}.flat", inputs)
            return self._node("Gemm", name, [flat, *self._parameters(name, layer)], transB=1)
        if layer.kind == "norm":
            rest = {"mean": np.zeros(layer.out_shape[2]), "var": np.ones(layer.out_shape[2])}
            inputs = inputs + self._parameters(name, layer)
            inputs += [self._constant(f"{name}.{key}", value) for key, value in rest.items()]
            return self._node("BatchNormalization", name, inputs, epsilon=0.0)
        if layer.kind == "concat":
            return self._node("Concat", name, inputs, axis=1)
        if layer.kind == "slice":
            end = layer.start + layer.out_shape[2]
            bounds = {"starts": layer.start, "ends": end, "axes": 1}
            inputs = inputs + [
                self._constant(f"{name}.{key}", np.array([value]), np.int64)
                for key, value in bounds.items()
            ]
            return self._node("Slice", name, inputs)
        if layer.kind == "pad":
            more = np.zeros(8)
            more[5] = layer.out_shape[2] - layer.in_shape[2]
            return self._node(
                "Pad", name, [*inputs, self._constant(f"{name}.more", more, np.int64)]
            )
        if layer.kind == "shuffle":
            return self._shuffle(name, layer, inputs[0])
        if layer.kind == "transpose":
            return self._node("Transpose", name, inputs, perm=[0, 2, 3, 1])
        if layer.kind == "resize":
            factors = np.array([1, 1, layer.stride, layer.stride])
            scales = self._constant(f"{name}.scales", factors, np.float32)
            rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            return self._node("Resize", name, [*inputs, "", scales], mode="nearest", **rule)
        if layer.kind == "identity":
            return inputs[0]
        if layer.kind in ("add", "multiply"):
            return self._node({"add": "Add", "multiply": "Mul"}[layer.kind], name, inputs)
        raise SpecError(f"layer {name}: a '{layer.kind}' exists in runtimes only")

    def _windows(self, name: str, layer: Layer, inputs: list[str]) -> str:
        """What slides a window over its input."""
        if layer.kind == "pool" and layer.kernel == layer.in_shape[:2]:
            return self._node("GlobalAveragePool", name, inputs)
        sizes = {"kernel_shape": list(layer.kernel), "strides": [layer.stride, layer.stride]}
        if layer.kind == "pool":
            return self._node("AveragePool", name, inputs, **sizes)
        if layer.kind in ("max_pool", "avg_pool"):
            pads = [(layer.kernel[0] - 1) // 2] * 4
            kind = {"max_pool": "MaxPool", "avg_pool": "AveragePool"}[layer.kind]
            return self._node(kind, name, inputs, **sizes, pads=pads)
        inputs = inputs + self._parameters(name, layer)
        if layer.kind == "conv_transpose":
            before, after = layer.trimming
            ends = {"pads": [before] * 4, "output_padding": [before - after] * 2}
            return self._node("ConvTranspose", name, inputs, **sizes, **ends)
        ends = {"pads": list(layer.padding), "dilations": [layer.dilation] * 2}
        return self._node("Conv", name, inputs, **sizes, **ends, group=layer.groups)

    def _shuffle(self, name: str, layer: Layer, source: str) -> str:
        """Channels of all groups in turn (Zhang et al., ShuffleNet, CVPR 2018)."""
        height, width, channels = layer.out_shape
        apart = np.array([0, layer.groups, channels // layer.groups, height, width])
        together = np.array([0, channels, height, width])
        grouped = self._constant(f"{name}.apart", apart, np.int64)
        source = self._node("Reshape", f"{name}.grouped", [source, grouped])
        source = self._node("Transpose", f"{name}.turned", [source], perm=[0, 2, 1, 3, 4])
        whole = self._constant(f"{name}.together", together, np.int64)
        return self._node("Reshape", name, [source, whole])

    def _along_channels(self, name: str, layer: Layer, source: str) -> str:
        """What works on channels last; transposed before and after in a chain that has them
        first."""
        if not self.is_channels_last:
            source = self._node("Transpose", f"{name}.last", [source], perm=[0, 2, 3, 1])
        if layer.kind == "softmax":
            output = self._node("Softmax", name, [source], axis=-1)
        elif layer.kind == "layer_norm":
            inputs = [source, *self._parameters(name, layer)]
            output = self._node("LayerNormalization", name, inputs, axis=-1)
        else:
            weight, bias = self.weights(name, layer)
            columns = self._constant(f"{name}.weight", weight.T)
            product = self._node("MatMul", f"{name}.product", [source, columns])
            output = self._node("Add", name, [product, self._constant(f"{name}.bias", bias)])
        if not self.is_channels_last:
            output = self._node("Transpose", f"{name}.first", [output], perm=[0, 3, 1, 2])
        return output

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
        if kind == "gelu":
            return self._gelu(named, output)
        gate = self._node("Sigmoid", f"{name}.sigmoid", [output])
        return gate if kind == "sigmoid" else self._node("Mul", named, [output, gate])

    def _gelu(self, name: str, source: str) -> str:
        """The exact one, as torch exports it and as ONNX Runtime knows it again as one node."""
        root = self._constant(f"{name}.root", np.sqrt(np.array(2)))
        one, half = (
            self._constant(f"{name}.{number}", np.array(value))
            for number, value in (("one", 1), ("half", 0.5))
        )
        scaled = self._node("Div", f"{name}.scaled", [source, root])
        erf = self._node("Erf", f"{name}.erf", [scaled])
        share = self._node("Add", f"{name}.share", [erf, one])
        doubled = self._node("Mul", f"{name}.doubled", [source, share])
        return self._node("Mul", name, [doubled, half])
