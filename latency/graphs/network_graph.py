"""A network of operators as a graph of nodes, so that the rules of a runtime split it into kernels
just as they split the ONNX file that `devices.export.onnx_model` writes of it."""

import math

import numpy as np
from numpy.typing import NDArray

from latency.errors import SpecError
from latency.graphs.folding import Sizes
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import KernelGraph, Network, kernels_of
from latency.graphs.reader import Graph, Node
from latency.operators.kinds import INPUT, Layer, Shape

OUTPUT = "output"
"""The name of a network's result."""

_KINDS = {
    "conv": "Conv",
    "conv_transpose": "ConvTranspose",
    "linear": "Gemm",
    "pool": "AveragePool",
    "max_pool": "MaxPool",
    "avg_pool": "AveragePool",
    "pad": "Pad",
    "shuffle": "Reshape",
    "add": "Add",
    "multiply": "Mul",
    "concat": "Concat",
    "slice": "Slice",
    "norm": "BatchNormalization",
    "identity": "Identity",
}
_ACTIVATIONS = {
    "relu": "Relu",
    "relu6": "Clip",
    "h_swish": "HardSwish",
    "h_sigmoid": "HardSigmoid",
    "silu": "Silu",
    "sigmoid": "Sigmoid",
    "gelu": "Gelu",
}
"""ONNX's names of layers and activations; those that files write as several nodes are one here."""


def network_kernels(network: Network, fusion: Fusion = USUAL) -> KernelGraph:
    """The kernels that a runtime of these rules makes of a network. `SpecError` for operators that
    are no part of a network of convolutions."""
    return kernels_of(network_graph(network), fusion)


def network_graph(network: Network) -> Graph:
    """The layers of a network as nodes of a graph; `SpecError` as in `network_kernels`."""
    writer = _Writer(network)
    return Graph(
        network.name, (INPUT,), (OUTPUT,), tuple(writer.nodes), writer.shapes, writer.weights
    )


class _Writer:
    """Nodes, shapes of tensors, and names of weights while layers are read."""

    def __init__(self, network: Network) -> None:
        first = network.ops[0]
        self.batch = network.batch
        self.nodes: list[Node] = []
        self.weights: dict[str, NDArray[np.float32] | None] = {}
        self.shapes: dict[str, Sizes] = {
            INPUT: self._sizes((first.height, first.width, first.in_channels))
        }
        self.last = INPUT
        for position, op in enumerate(network.ops):
            outputs = {INPUT: self.last}
            for layer in op.layers:
                if layer.kind not in _KINDS or not outputs.keys() >= {*layer.inputs}:
                    raise SpecError(f"{op.key}: nothing is known of its kernels in a network")
                inputs = [outputs[source] for source in layer.inputs]
                outputs[layer.name] = self._layer(f"{position}.{layer.name}", layer, inputs)
            self.last = outputs[op.layers[-1].name]
        self._node("Identity", OUTPUT, [self.last], self.shapes[self.last])

    def _layer(self, name: str, layer: Layer, inputs: list[str]) -> str:
        """Write a layer and its activation; the name of its output."""
        if layer.traits.is_flat:
            inputs = [self._node("Flatten", f"{name}.flat", inputs, self._flat(layer.in_shape))]
        if layer.kind == "shuffle":
            inputs = [self._shuffled(name, layer, inputs)]
        sizes = self._sizes(layer.out_shape)
        if layer.traits.is_flat:
            sizes = self._flat(layer.out_shape)
        if layer.weight_shape:
            inputs = [*inputs, self._weight(f"{name}.weight", layer.weight_shape)]
        kind = _KINDS[layer.kind]
        if layer.kind == "pool" and layer.kernel == layer.in_shape[:2]:
            kind = "GlobalAveragePool"
        attributes = {
            "kernel_shape": layer.kernel,
            "strides": (layer.stride, layer.stride),
            "dilations": (layer.dilation, layer.dilation),
            "group": layer.groups,
        }
        output = self._node(kind, name, inputs, sizes, attributes)
        if layer.activation == "none":
            return output
        activation = _ACTIVATIONS[layer.activation]
        return self._node(activation, f"{name}.{layer.activation}", [output], sizes)

    def _shuffled(self, name: str, layer: Layer, inputs: list[str]) -> str:
        """Channels dealt out among the groups: a transposition of groups and channels."""
        height, width, channels = layer.in_shape
        each = channels // layer.groups
        split = (self.batch, layer.groups, each, height, width)
        grouped = self._node("Reshape", f"{name}.grouped", inputs, split)
        dealt = (self.batch, each, layer.groups, height, width)
        return self._node("Transpose", f"{name}.dealt", [grouped], dealt, {"perm": (0, 2, 1, 3, 4)})

    def _node(
        self,
        kind: str,
        name: str,
        inputs: list[str],
        sizes: Sizes,
        attributes: dict[str, object] | None = None,
    ) -> str:
        self.nodes.append(Node(kind, name, tuple(inputs), (name,), attributes or {}))
        self.shapes[name] = sizes
        return name

    def _weight(self, name: str, sizes: Sizes) -> str:
        self.shapes[name] = sizes
        self.weights[name] = None
        return name

    def _sizes(self, shape: Shape) -> Sizes:
        height, width, channels = shape
        return (self.batch, channels, height, width)

    def _flat(self, shape: Shape) -> Sizes:
        return (self.batch, math.prod(shape))
