"""Layers to ONNX: the graph that is measured, and the one that is deployed.

Written with `devices.export.graph_writer` straight from the operators' layers, batch norm folded
into its convolution. Operator i's layer "project" has its weights under the name "i.project".
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.export.graph_writer import GraphWriter
from latency.errors import SpecError
from latency.operators.kinds import INPUT, OTHER, Layer, Shape, input_shapes
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
        if op.traits.stands_alone:
            raise SpecError(f"{op.key}: a {op.kind} stands alone, in no chain of operators")


def is_channels_last(ops: Sequence[OpSpec]) -> bool:
    """Whether a chain works along the channels throughout, so that they are the last axis."""
    kinds = [layer.traits for op in ops for layer in op.layers]
    return kinds[0].channels_last and all(kind.channels_last or kind.is_identity for kind in kinds)


def is_flat(ops: Sequence[OpSpec]) -> bool:
    """Whether a chain returns (batch, features), as a linear operator does."""
    kinds = [layer.traits for op in ops for layer in op.layers]
    return [kind.is_flat for kind in kinds if not kind.is_identity][-1:] == [True]


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
    axes = _axes(
        first.batch, last.out_shape, writer.is_channels_last or last.layers[-1].traits.turns
    )
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

    def parameters(self, name: str, layer: Layer) -> tuple[str, str]:
        """The layer's weight and bias as constants."""
        weight, bias = self.weights(name, layer)
        return self.constant(weight, f"{name}.weight"), self.constant(bias, f"{name}.bias")

    def _layer(self, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        """Append the layer, without its activation; returns the name of its output. What works
        along the channels is transposed before and after in a chain that has them first."""
        write = _NODES.get(layer.kind)
        if write is None:
            raise SpecError(f"layer {name}: a '{layer.kind}' exists in runtimes only")
        if self.is_channels_last or not layer.traits.channels_last:
            return write(self, name, layer, inputs)
        last = self.channels_last(inputs[0], f"{name}.last")
        return self.channels_first(write(self, name, layer, (last,)), f"{name}.first")


_Write = Callable[[_LayerWriter, str, Layer, tuple[str, ...]], str]
"""Appends a layer of this name, without its activation, that reads these tensors; returns the one
that it computes."""


def _conv(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    pads, dilations = list(layer.padding), [layer.dilation] * 2
    ends = {"pads": pads, "dilations": dilations, "group": layer.groups}
    return writer.node(
        "Conv", (*inputs, *writer.parameters(name, layer)), name, **_window(layer), **ends
    )


def _conv_transpose(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    before, after = layer.trimming
    ends = {"pads": [before] * 4, "output_padding": [before - after] * 2}
    inputs += writer.parameters(name, layer)
    return writer.node("ConvTranspose", inputs, name, **_window(layer), **ends)


def _pool(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    if layer.kernel == layer.in_shape[:2]:
        return writer.node("GlobalAveragePool", inputs, name)
    return writer.node("AveragePool", inputs, name, **_window(layer))


def _padded(kind: str) -> _Write:
    """A pooling, padded alike on all sides."""

    def write(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
        pads = [(layer.kernel[0] - 1) // 2] * 4
        return writer.node(kind, inputs, name, **_window(layer), pads=pads)

    return write


def _window(layer: Layer) -> dict[str, list[int]]:
    return {"kernel_shape": list(layer.kernel), "strides": [layer.stride, layer.stride]}


def _linear(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    flat = writer.node("Flatten", inputs, f"{name}.flat")
    return writer.node("Gemm", [flat, *writer.parameters(name, layer)], name, transB=1)


def _matmul(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    weight, bias = writer.weights(name, layer)
    return writer.matmul(inputs[0], weight.T, bias, name)


def _norm(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    rest = {"mean": np.zeros(layer.out_shape[2]), "var": np.ones(layer.out_shape[2])}
    numbers = [*inputs, *writer.parameters(name, layer)]
    numbers += [writer.constant(value, f"{name}.{key}") for key, value in rest.items()]
    return writer.node("BatchNormalization", numbers, name, epsilon=0.0)


def _layer_norm(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    inputs += writer.parameters(name, layer)
    return writer.node("LayerNormalization", inputs, name, axis=-1)


def _slice(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    end = layer.start + layer.out_shape[2]
    bounds = {"starts": layer.start, "ends": end, "axes": 1}
    ends = [writer.constant([value], f"{name}.{key}") for key, value in bounds.items()]
    return writer.node("Slice", [*inputs, *ends], name)


def _pad(writer: _LayerWriter, name: str, layer: Layer, inputs: tuple[str, ...]) -> str:
    more = [0, 0, 0, 0, 0, layer.out_shape[2] - layer.in_shape[2], 0, 0]
    return writer.node("Pad", [*inputs, writer.constant(more, f"{name}.more")], name)


def _node(kind: str, **attributes: Any) -> _Write:
    """A node that has nothing of the layer but its inputs."""
    return lambda writer, name, layer, inputs: writer.node(kind, inputs, name, **attributes)


_NODES: dict[str, _Write] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "pool": _pool,
    "max_pool": _padded("MaxPool"),
    "avg_pool": _padded("AveragePool"),
    "add": _node("Add"),
    "multiply": _node("Mul"),
    "norm": _norm,
    "layer_norm": _layer_norm,
    "concat": _node("Concat", axis=1),
    "slice": _slice,
    "pad": _pad,
    "shuffle": lambda writer, name, layer, inputs: writer.shuffle(
        inputs[0], layer.groups, _axes(0, layer.out_shape, False), name
    ),
    "transpose": lambda writer, name, layer, inputs: writer.channels_last(inputs[0], name),
    "resize": lambda writer, name, layer, inputs: writer.upsample(inputs[0], layer.stride, name),
    "softmax": _node("Softmax", axis=-1),
    "identity": lambda writer, name, layer, inputs: inputs[0],
}
"""Kind of a layer to its nodes; of the kinds that are not here only runtimes have any."""
