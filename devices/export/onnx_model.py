"""Layers to ONNX: the model that is measured, and the one that is deployed.

It is written from the operators' layers, with batch norm folded into the convolution before it. The
weight of layer "project" of operator i is named "i.project.weight".
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.export.graph_writer import GraphWriter
from latency.errors import SpecError
from latency.operators.kinds import INPUT, OTHER, Layer, Shape, input_shapes
from latency.operators.spec import OpSpec

Parameters = tuple[NDArray[np.float32], NDArray[np.float32]]
Weights = Callable[[str, Layer], Parameters]
"""From a layer's name in the network ("3.expand") and the layer to its folded weight and bias."""


def random_weights(seed: int = 0) -> Weights:
    """Normal weights scaled as in He et al. (ICCV 2015), which keep activations away from zero,
    infinity and denormal numbers: some hardware computes these at another speed. Layers of the
    same shape share their weights, whatever was built before."""

    @cache
    def normal(shape: tuple[int, ...], outputs: int) -> Parameters:
        generator = np.random.default_rng([seed, outputs, *shape])
        scale = np.float32(np.sqrt(2 * outputs / np.prod(shape)))
        weight = generator.standard_normal(shape, dtype=np.float32) * scale
        bias = generator.standard_normal(outputs, dtype=np.float32) * np.float32(0.1)
        return weight, bias

    return lambda name, layer: normal(layer.weight_shape, layer.out_shape[2])


def check_chain(ops: Sequence[OpSpec]) -> None:
    """Raise `SpecError` unless each operator can take the output of the one before it: none
    `stands_alone`, all have the same batch, and no convolution follows a linear operator."""
    for op in ops if len(ops) > 1 else ():
        if op.traits.stands_alone:
            raise SpecError(f"{op.key}: a {op.kind} stands alone, in no chain of operators")
    for position, (before, op) in enumerate(pairwise(ops), 1):
        if op.batch != before.batch:
            raise SpecError(f"{op.key} has batch {op.batch}, the operator before it {before.batch}")
        first = op.layers[0].traits
        if is_flat(ops[:position]) and not (first.is_flat or first.is_identity):
            raise SpecError(f"{op.key} does not take the (batch, features) of a linear operator")


def is_channels_last(ops: Sequence[OpSpec]) -> bool:
    """Whether all layers of a chain work along the channels, so that these are the last axis."""
    kinds = [layer.traits for op in ops for layer in op.layers]
    return kinds[0].channels_last and all(kind.channels_last or kind.is_identity for kind in kinds)


def is_flat(ops: Sequence[OpSpec]) -> bool:
    """Whether a chain returns (batch, features), as a linear operator does."""
    kinds = [layer.traits for op in ops for layer in op.layers]
    return [kind.is_flat for kind in kinds if not kind.is_identity][-1:] == [True]


def write_chain(ops: Sequence[OpSpec], write: Callable[[str, Layer, tuple[str, ...]], str]) -> str:
    """Call `write` for each layer of a chain, in order; returns the output of the last.

    `write` takes the layer's name in the network ("3.expand"), the layer and the names of its
    inputs, and returns the name of its output. Raises `SpecError` as `check_chain`.
    """
    check_chain(ops)
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
    may have a second input "other" (`other_shape`). Raises `SpecError` as `check_chain`, and for a
    layer that only runtimes insert.
    """
    writer = _LayerWriter(weights, np.float16 if half else np.float32, is_channels_last(ops))
    output = write_chain(ops, writer.layer)
    writer.scope = ""
    writer.node("Identity", [output], "output")
    batch, last = ops[0].batch, ops[-1]
    inputs = {
        name: _axes(batch, shape, writer.is_channels_last)
        for name, shape in input_shapes(ops[0]).items()
    }
    axes = _axes(batch, last.out_shape, writer.is_channels_last or last.layers[-1].traits.turns)
    model = writer.proto(name, inputs, {"output": axes[:2] if is_flat(ops) else axes})
    model.producer_name = "lat-search"
    return model.SerializeToString()


def _axes(batch: int, shape: Shape, is_channels_last: bool) -> list[int]:
    height, width, channels = shape
    last, first = [batch, height, width, channels], [batch, channels, height, width]
    return last if is_channels_last else first


class _LayerWriter(GraphWriter):
    """Writes layers; the scope is the layer's name in the network."""

    def __init__(self, weights: Weights, dtype: type[np.floating], is_channels_last: bool) -> None:
        super().__init__(dtype)
        self.weights = weights
        self.is_channels_last = is_channels_last

    def layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """A layer and its activation. A layer that works along the channels is transposed before
        and after in a chain with channels first."""
        if layer.kind not in _NODES:
            raise SpecError(f"layer {name}: a '{layer.kind}' exists in runtimes only")
        self.scope = name
        transposes = layer.traits.channels_last and not self.is_channels_last
        if transposes:
            inputs = (self.channels_last(inputs[0]),)
        output = _NODES[layer.kind](self, layer, inputs)
        if transposes:
            output = self.channels_first(output)
        return self.activate(output, layer.activation)

    def parameters(self, layer: Layer) -> list[str]:
        """The constants of the layer's weight and bias; none for a layer without a weight."""
        if not layer.weight_shape:
            return []
        weight, bias = self.weights(self.scope, layer)
        return [self.constant(weight, "weight"), self.constant(bias, "bias")]


_Write = Callable[[_LayerWriter, Layer, tuple[str, ...]], str]
"""Appends a layer with these inputs, without its activation; returns its output."""


def _node(
    kind: str, sizes: Callable[[Layer], dict[str, Any]] = lambda layer: {}, **attributes: Any
) -> _Write:
    """One node, with the layer's inputs and parameters."""
    return lambda writer, layer, inputs: writer.node(
        kind, [*inputs, *writer.parameters(layer)], **sizes(layer), **attributes
    )


def _window(layer: Layer) -> dict[str, Any]:
    return {"kernel_shape": list(layer.kernel), "strides": [layer.stride, layer.stride]}


def _padded_window(layer: Layer) -> dict[str, Any]:
    """A window with the same padding on all sides."""
    return {**_window(layer), "pads": [(layer.kernel[0] - 1) // 2] * 4}


def _conv(layer: Layer) -> dict[str, Any]:
    pads, dilations = list(layer.padding), [layer.dilation] * 2
    return {**_window(layer), "pads": pads, "dilations": dilations, "group": layer.groups}


def _conv_transpose(layer: Layer) -> dict[str, Any]:
    before, after = layer.trimming
    return {**_window(layer), "pads": [before] * 4, "output_padding": [before - after] * 2}


def _pool(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    if layer.kernel == layer.in_shape[:2]:
        return writer.node("GlobalAveragePool", inputs)
    return writer.node("AveragePool", inputs, **_window(layer))


def _linear(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    flat = writer.node("Flatten", inputs)
    return writer.node("Gemm", [flat, *writer.parameters(layer)], transB=1)


def _matmul(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    weight, bias = writer.weights(writer.scope, layer)
    return writer.matmul(inputs[0], weight.T, bias)


def _norm(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    channels = layer.out_shape[2]
    statistics = [writer.constant(np.zeros(channels)), writer.constant(np.ones(channels))]
    arguments = [*inputs, *writer.parameters(layer), *statistics]
    return writer.node("BatchNormalization", arguments, epsilon=0.0)


def _slice(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    bounds = (layer.start, layer.start + layer.out_shape[2], 1)  # start, end, axis
    return writer.node("Slice", [*inputs, *(writer.constant([value]) for value in bounds)])


def _pad(writer: _LayerWriter, layer: Layer, inputs: tuple[str, ...]) -> str:
    pads = [0, 0, 0, 0, 0, layer.out_shape[2] - layer.in_shape[2], 0, 0]
    return writer.node("Pad", [*inputs, writer.constant(pads)])


_NODES: dict[str, _Write] = {
    "conv": _node("Conv", _conv),
    "conv_transpose": _node("ConvTranspose", _conv_transpose),
    "linear": _linear,
    "matmul": _matmul,
    "pool": _pool,
    "max_pool": _node("MaxPool", _padded_window),
    "avg_pool": _node("AveragePool", _padded_window),
    "add": _node("Add"),
    "multiply": _node("Mul"),
    "norm": _norm,
    "layer_norm": _node("LayerNormalization", axis=-1),
    "concat": _node("Concat", axis=1),
    "slice": _slice,
    "pad": _pad,
    "shuffle": lambda writer, layer, inputs: writer.shuffle(
        inputs[0], layer.groups, _axes(0, layer.out_shape, False)
    ),
    "transpose": lambda writer, layer, inputs: writer.channels_last(inputs[0]),
    "resize": lambda writer, layer, inputs: writer.upsample(inputs[0], layer.stride),
    "softmax": _node("Softmax", axis=-1),
    "identity": lambda writer, layer, inputs: inputs[0],
}
"""Kind of layer to its nodes."""
