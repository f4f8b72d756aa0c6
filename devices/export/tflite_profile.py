"""Names the nodes in TensorFlow Lite's profile by the layers that they execute.

The runtime's own nodes are named by the tensor that they compute, those of the XNNPACK delegate
only by their kind. Nodes run in the file's order, so the n-th of a kind is the file's n-th.
"""

import re
from collections.abc import Mapping, Sequence

from devices.export.onnx_model import random_weights
from devices.export.tflite_graph import WEIGHTED, Code
from devices.export.tflite_model import network_graph
from latency.errors import DeviceError
from latency.operators.spec import OpSpec

_KINDS = {
    WEIGHTED: r"convolution|fully connected",
    (Code.AVERAGE_POOL_2D, Code.MEAN): r"average pooling|mean \(|sum \(",
    (Code.MAX_POOL_2D,): r"max pooling",
    (Code.ADD,): r"add \(",
    (Code.MUL,): r"multiply \(",
    (Code.SOFTMAX,): r"softmax",
    (Code.SLICE,): r"slice",
    (Code.TRANSPOSE,): r"transpose",
    (Code.RESHAPE,): r"reshape",
    (Code.RESIZE_NEAREST_NEIGHBOR,): r"resize",
}
"""Operators of a file, and a pattern of the names that XNNPACK gives them."""
_OWN_NODE = re.compile(r"(?!TfLite\w*Delegate)\S+ \[([^\]]+)\]:\d+")


def named_nodes(
    ops: Sequence[OpSpec], precision: str, nodes: Mapping[str, float]
) -> dict[str, float]:
    """ms of nodes in order of execution, by the tensor that each computes ("3.expand").

    `nodes`: ms by the profiler's "type name", of a chain of operators in this precision. Kinds
    that are executed more or less often than the file contains them keep their names (activations,
    what the delegate inserts). Raises `DeviceError` if this happens to convolutions: builds older
    than TensorFlow 2.10 report the delegate as one node.
    """
    graph = network_graph(ops, random_weights(), integer=precision == "int8")
    own = {node: match[1] for node in nodes if (match := _OWN_NODE.fullmatch(node))}
    layers = {node: tensor for node, tensor in own.items() if tensor in graph.tensors}
    for codes, pattern in _KINDS.items():
        computed = [node.output for node in graph.nodes if node.code in codes]
        outputs = [output for output in computed if output not in layers.values()]
        executed = [n for n in nodes if n not in layers and re.search(pattern, n, re.IGNORECASE)]
        if len(executed) == len(outputs):
            layers |= dict(zip(executed, outputs, strict=True))
        elif codes == WEIGHTED:
            raise DeviceError(
                f"the profiler reports {len(executed)} convolutions and linear layers, but the "
                f"model has {len(outputs)}; its TensorFlow must be 2.10 or newer"
            )
    return {layers.get(node, node): ms for node, ms in nodes.items()}
