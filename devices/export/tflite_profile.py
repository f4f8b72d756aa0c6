"""Nodes that TensorFlow Lite's profiler tells of, named by the layers that they execute.

Its own nodes carry the name of what they compute; those of the XNNPACK delegate only say of what
kind they are. They run in the order of the file's, so that the first of a kind is the file's first.
"""

import re
from collections.abc import Mapping, Sequence

from devices.export.onnx_model import random_weights
from devices.export.tflite_graph import Code, Graph
from devices.export.tflite_model import network_graph
from latency.errors import DeviceError
from latency.operators.spec import OpSpec

_WEIGHTED = (Code.CONV_2D, Code.DEPTHWISE_CONV_2D, Code.TRANSPOSE_CONV, Code.FULLY_CONNECTED)
_KINDS = (
    (_WEIGHTED, ("convolution", "fully connected")),
    ((Code.AVERAGE_POOL_2D, Code.MEAN), ("average pooling", "mean (", "sum (")),
    ((Code.MAX_POOL_2D,), ("max pooling",)),
    ((Code.ADD,), ("add (",)),
    ((Code.MUL,), ("multiply (",)),
    ((Code.SOFTMAX,), ("softmax",)),
    ((Code.SLICE,), ("slice",)),
    ((Code.TRANSPOSE,), ("transpose",)),
    ((Code.RESHAPE,), ("reshape",)),
    ((Code.RESIZE_NEAREST_NEIGHBOR,), ("resize",)),
)
"""Nodes of a file, and words in what XNNPACK calls the operator that executes them."""
_OWN_NODE = re.compile(r"(?!TfLite\w*Delegate)\S+ \[([^\]]+)\]:\d+")


def named_nodes(
    ops: Sequence[OpSpec], precision: str, nodes: Mapping[str, float]
) -> dict[str, float]:
    """ms of nodes, in order of execution, by the tensor that each computes ("3.expand").

    `nodes`: by "type name" as the profiler prints them, of a chain of operators in this precision.
    Nodes of a kind that is executed more or less often than the file has it keep their names:
    activations, what the delegate inserts. Raises `DeviceError` where this is so for convolutions:
    a build older than TensorFlow 2.10 tells of the delegate as a whole.
    """
    graph = network_graph(ops, random_weights(), integer=precision == "int8")
    layers = _layers(graph, list(nodes))
    found: dict[str, float] = {}
    for node, ms in nodes.items():
        name = layers.get(node, node)
        found[name] = found.get(name, 0.0) + ms
    return found


def _layers(graph: Graph, nodes: Sequence[str]) -> dict[str, str]:
    """The tensor that a node computes, where that can be told."""
    own = {node: match[1] for node in nodes if (match := _OWN_NODE.fullmatch(node))}
    layers = {node: tensor for node, tensor in own.items() if tensor in graph.tensors}
    for codes, words in _KINDS:
        outputs = [
            node.output
            for node in graph.nodes
            if node.code in codes and node.output not in layers.values()
        ]
        executed = [
            node
            for node in nodes
            if node not in layers and any(word in node.lower() for word in words)
        ]
        if len(executed) == len(outputs):
            layers |= dict(zip(executed, outputs, strict=True))
        elif codes == _WEIGHTED:
            raise DeviceError(
                f"the profiler tells of {len(executed)} convolutions and linear layers where the "
                f"model has {len(outputs)}: is its build older than TensorFlow 2.10?"
            )
    return layers
