"""A network of operators as a graph of nodes, so that the rules of a runtime split it into kernels
just as they split the ONNX file that `devices.export.onnx_model` writes of it."""

import math

from latency.errors import SpecError
from latency.graphs.folding import Sizes
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import KernelGraph, Network, kernels_of
from latency.graphs.patterns import ACTIVATIONS
from latency.graphs.reader import Graph, Node
from latency.operators.kinds import INPUT, Layer

_OUTPUT = "output"

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
"""ONNX's names of layers; those that files write as several nodes are one here."""


def network_kernels(network: Network, fusion: Fusion = USUAL) -> KernelGraph:
    """The kernels that a runtime with these fusion rules makes of a network. `SpecError` for
    operators that are not part of a convolutional network."""
    writer = _Writer(network)
    nodes = tuple(writer.nodes)
    graph = Graph(network.name, (INPUT,), (_OUTPUT,), nodes, writer.shapes, writer.weights)
    return kernels_of(graph, fusion)


class _Writer:
    """The nodes of a network, the shapes of their tensors, and the names of the weights."""

    def __init__(self, network: Network) -> None:
        first = network.ops[0]
        self.batch = network.batch
        self.nodes: list[Node] = []
        self.weights: dict[str, None] = {}
        self.shapes: dict[str, Sizes] = {
            INPUT: (self.batch, first.in_channels, first.height, first.width)
        }
        last = INPUT
        for position, op in enumerate(network.ops):
            outputs = {INPUT: last}
            for layer in op.layers:
                if layer.kind not in _KINDS or not outputs.keys() >= {*layer.inputs}:
                    raise SpecError(f"{op.key}: nothing is known of its kernels in a network")
                inputs = [outputs[source] for source in layer.inputs]
                outputs[layer.name] = self._layer(f"{position}.{layer.name}", layer, inputs)
            last = outputs[op.layers[-1].name]
        self._node("Identity", _OUTPUT, [last], self.shapes[last])

    def _layer(self, name: str, layer: Layer, inputs: list[str]) -> str:
        """Write a layer and its activation; the name of its output."""
        height, width, channels = layer.out_shape
        sizes: Sizes = (self.batch, channels, height, width)
        if layer.traits.is_flat:
            flat = (self.batch, math.prod(layer.in_shape))
            inputs = [self._node("Flatten", f"{name}.flat", inputs, flat)]
            sizes = (self.batch, math.prod(layer.out_shape))
        if layer.kind == "shuffle":
            inputs = [self._shuffled(name, layer, inputs)]
        if layer.weight_shape:
            weight = f"{name}.weight"
            self.shapes[weight], self.weights[weight] = layer.weight_shape, None
            inputs = [*inputs, weight]
        kind = _KINDS[layer.kind]
        if layer.kind == "pool" and layer.kernel == layer.in_shape[:2]:
            kind = "GlobalAveragePool"
        output = self._node(
            kind, name, inputs, sizes, kernel_shape=layer.kernel, group=layer.groups,
            strides=(layer.stride, layer.stride), dilations=(layer.dilation, layer.dilation),
        )  # fmt: skip
        if layer.activation == "none":
            return output
        activation = ACTIVATIONS[layer.activation][0]
        return self._node(activation, f"{name}.{layer.activation}", [output], sizes)

    def _shuffled(self, name: str, layer: Layer, inputs: list[str]) -> str:
        """Channels split into groups, and groups and channels transposed."""
        height, width, channels = layer.in_shape
        each = channels // layer.groups
        split = (self.batch, layer.groups, each, height, width)
        grouped = self._node("Reshape", f"{name}.grouped", inputs, split)
        turned = (self.batch, each, layer.groups, height, width)
        perm = (0, 2, 1, 3, 4)
        return self._node("Transpose", f"{name}.turned", [grouped], turned, perm=perm)

    def _node(
        self, kind: str, name: str, inputs: list[str], sizes: Sizes, **attributes: object
    ) -> str:
        self.nodes.append(Node(kind, name, tuple(inputs), (name,), attributes))
        self.shapes[name] = sizes
        return name
