"""Layers to ONNX: the graph that is measured, and the one that is deployed.

Written with `devices.export.graph_writer` straight from the operators' layers, batch norm folded
into its convolution. Operator i's layer "project" has its weights under the name "i.project".
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from devices.export.graph_writer import GraphWriter
from latency.errors import SpecError
from latency.operators.kinds import (
    CHANNELS_LAST,
    INPUT,
    OTHER,
    STANDS_ALONE,
    Layer,
    Shape,
    other_shape,
)
from latency.operators.spec import OpSpec

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


def input_shapes(op: OpSpec) -> dict[str, Shape]:
    """The (height, width, channels) of an operator's inputs, by their names in a graph."""
    other = other_shape(op)
    first = {INPUT: (op.height, op.width, op.in_channels)}
    return first if other is None else {**first, OTHER: other}


def write_chain(ops: Sequence[OpSpec], write: Callable[[str, Layer, tuple[str, ...]], str]) -> str:
    """Have all layers of a chain of operators written, in order; returns the output of the last.

    `write` takes a layer's name in the network ("3.expand"), the layer and the tensors that it
    reads, and returns the one that it computes.
    """
    current = INPUT
    for position, op in enumerate(ops):
        outputs = {INPUT: current, OTHER: OTHER}
        for layer in op.layers:
            inputs = tuple(outputs[source] for source in layer.inputs)
            outputs[layer.name] = write(f"{position}.{layer.name}", layer, inputs)
        current = outputs[op.layers[-1].name]
    return current


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
    writer = _LayerWriter(weights, np.float16 if half else np.float32, is_channels_last(ops))
    output = write_chain(ops, writer.layer)
    writer.node("Identity", [output], "output")
    first, last = ops[0], ops[-1]
    inputs = {
        name: _axes(first.batch, shape, writer.is_channels_last)
        for name, shape in input_shapes(first).items()
    }
    axes = _axes(first.batch, last.out_shape, writer.is_channels_last or last.kind == "transpose")
    model = writer.proto(name, inputs, {"output": axes[:2] if is_flat(ops) else axes})
    model.producer_name = "lat-search"
    return model.SerializeToString()


def _axes(batch: int, shape: Shape, is_channels_last: bool) -> list[int]:
    height, width, channels = shape
    if is_channels_last:
        return [batch, height, width, channels]
    return [batch, channels, height, width]


class _LayerWriter(GraphWriter):
    """A graph while it is written from layers."""

    def __init__(self, weights: Weights, dtype: type[np.floating], is_channels_last: bool) -> None:
        super().__init__(dtype)
        self.weights = weights
        self.is_channels_last = is_channels_last

    def layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append a layer and its activation; returns the name of its output."""
        return self.activate(self._layer(name, layer, inputs), layer.activation, name)

    def _parameters(self, name: str, layer: Layer) -> tuple[str, str]:
        weight, bias = self.weights(name, layer)
        return self.constant(weight, f"{name}.weight"), self.constant(bias, f"{name}.bias")

    def _layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append the layer, without its activation; returns the name of its output."""
        if layer.kind in CHANNELS_LAST:
            return self._along_channels(name, layer, inputs[0])
        if layer.kind in ("pool", "max_pool", "avg_pool", "conv", "conv_transpose"):
            return self._windows(name, layer, inputs)
        if layer.kind == "linear":
            flat = self.node("Flatten", inputs, f"{name}.flat")
            return self.node("Gemm", [flat, *self._parameters(name, layer)], name, transB=1)
        if layer.kind == "norm":
            rest = {"mean": np.zeros(layer.out_shape[2]), "var": np.ones(layer.out_shape[2])}
            numbers = [*inputs, *self._parameters(name, layer)]
            numbers += [self.constant(value, f"{name}.{key}") for key, value in rest.items()]
            return self.node("BatchNormalization", numbers, name, epsilon=0.0)
        if layer.kind == "concat":
            return self.node("Concat", inputs, name, axis=1)
        if layer.kind == "slice":
            end = layer.start + layer.out_shape[2]
            bounds = {"starts": layer.start, "ends": end, "axes": 1}
            ends = [self.constant([value], f"{name}.{key}") for key, value in bounds.items()]
            return self.node("Slice", [*inputs, *ends], name)
        if layer.kind == "pad":
            more = [0, 0, 0, 0, 0, layer.out_shape[2] - layer.in_shape[2], 0, 0]
            return self.node("Pad", [*inputs, self.constant(more, f"{name}.more")], name)
        if layer.kind == "shuffle":
            return self.shuffle(inputs[0], layer.groups, _axes(0, layer.out_shape, False), name)
        if layer.kind == "transpose":
            return self.channels_last(inputs[0], name)
        if layer.kind == "resize":
            return self.upsample(inputs[0], layer.stride, name)
        if layer.kind == "identity":
            return inputs[0]
        if layer.kind in ("add", "multiply"):
            return self.node({"add": "Add", "multiply": "Mul"}[layer.kind], inputs, name)
        raise SpecError(f"layer {name}: a '{layer.kind}' exists in runtimes only")

    def _windows(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """What slides a window over its input."""
        if layer.kind == "pool" and layer.kernel == layer.in_shape[:2]:
            return self.node("GlobalAveragePool", inputs, name)
        sizes = {"kernel_shape": list(layer.kernel), "strides": [layer.stride, layer.stride]}
        if layer.kind == "pool":
            return self.node("AveragePool", inputs, name, **sizes)
        if layer.kind in ("max_pool", "avg_pool"):
            pads = [(layer.kernel[0] - 1) // 2] * 4
            kind = {"max_pool": "MaxPool", "avg_pool": "AveragePool"}[layer.kind]
            return self.node(kind, inputs, name, **sizes, pads=pads)
        inputs = inputs + self._parameters(name, layer)
        if layer.kind == "conv_transpose":
            before, after = layer.trimming
            ends = {"pads": [before] * 4, "output_padding": [before - after] * 2}
            return self.node("ConvTranspose", inputs, name, **sizes, **ends)
        ends = {"pads": list(layer.padding), "dilations": [layer.dilation] * 2}
        return self.node("Conv", inputs, name, **sizes, **ends, group=layer.groups)

    def _along_channels(self, name: str, layer: Layer, source: str) -> str:
        """What works on channels last; transposed before and after in a chain that has them
        first."""
        if not self.is_channels_last:
            source = self.channels_last(source, f"{name}.last")
        if layer.kind == "softmax":
            output = self.node("Softmax", [source], name, axis=-1)
        elif layer.kind == "layer_norm":
            inputs = [source, *self._parameters(name, layer)]
            output = self.node("LayerNormalization", inputs, name, axis=-1)
        else:
            weight, bias = self.weights(name, layer)
            output = self.matmul(source, weight.T, bias, name)
        return output if self.is_channels_last else self.channels_first(output, f"{name}.first")
