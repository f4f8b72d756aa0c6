"""Layers to TensorFlow Lite: the file that phones run, with channels last throughout.

The operators' layers become a `Graph`, which `devices.export.tflite_int8` may quantise before it is
serialised. Weights are stored in the format's order of axes, so that no node transposes anything
except in operators that do just that.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from devices.export.onnx_model import Weights, write_chain
from devices.export.tflite_graph import OUTPUT, Graph, serialise
from devices.export.tflite_layers import write_layer
from devices.export.tflite_writer import Writer
from latency.operators.kinds import INPUT, input_shapes
from latency.operators.spec import OpSpec


def tflite_model(ops: Sequence[OpSpec], weights: Weights, name: str = "network") -> bytes:
    """The .tflite file of a chain of operators, in float32.

    Input "input": (batch, height, width, channels); output "output": (batch, height, width,
    channels), or (batch, features) after a linear operator. A single operator may have a second
    input "other" (`other_shape`). A `transpose` takes (batch, channels, height, width). Raises
    `SpecError` as `devices.export.onnx_model.check_chain`, and for a layer that the format does not
    have.
    """
    return serialise(network_graph(ops, weights, name))


def network_graph(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", integer: bool = False
) -> Graph:
    """The graph that `tflite_model` writes; errors as there.

    `integer`: replaces HARD_SWISH and global AVERAGE_POOL_2D, which XNNPACK computes in float32
    only, by operators that it also computes in int8.
    """
    first = ops[0]
    shapes = input_shapes(first)
    if first.layers[0].traits.turns:
        shapes[INPUT] = (first.in_channels, first.height, first.width)
    writer = Writer(Graph(name), weights, first.batch, integer)
    for tensor, shape in shapes.items():
        writer.tensor(tensor, shape)
    last = write_chain(ops, partial(write_layer, writer))
    graph = writer.graph
    graph.tensors[OUTPUT] = replace(graph.tensors.pop(last), name=OUTPUT)
    graph.nodes[-1] = replace(graph.nodes[-1], output=OUTPUT)
    return graph
