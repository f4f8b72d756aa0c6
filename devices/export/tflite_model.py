"""Layers to TensorFlow Lite: the file that phones run, NHWC throughout.

Written straight from the operators' layers, as `devices.export.onnx_model` writes ONNX: the layers
become a `Graph` of tensors and nodes, which `devices.export.tflite_int8` may quantise before it is
serialised. No node transposes anything (but the operator that does just that): the weights are
stored as the format wants them.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

from devices.export.onnx_model import Weights, check_alone, is_flat, write_chain
from devices.export.tflite_graph import OUTPUT, Graph, serialise
from devices.export.tflite_layers import write_layer
from devices.export.tflite_writer import Writer
from latency.errors import SpecError
from latency.operators.kinds import INPUT, input_shapes
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec


def tflite_model(ops: Sequence[OpSpec], weights: Weights, name: str = "network") -> bytes:
    """The .tflite file of a chain of operators, in float32.

    Input "input": (batch, height, width, channels), and a single operator may have a second one,
    "other" (`other_shape`); output "output": (batch, height, width, channels), or (batch,
    features) after a linear operator. A `transpose` takes (batch, channels, height, width).
    Raises `SpecError` where the operators don't form a chain, or the format lacks one.
    """
    return serialise(network_graph(ops, weights, name))


def network_graph(
    ops: Sequence[OpSpec], weights: Weights, name: str = "network", integer: bool = False
) -> Graph:
    """The graph that `tflite_model` writes; errors as there.

    `integer`: without HARD_SWISH and global AVERAGE_POOL_2D, which XNNPACK computes in float32
    only, but by operators that it computes in int8 too.
    """
    _check_chain(ops, name)
    first = ops[0]
    shapes = input_shapes(first)
    if first.layers[0].traits.turns:
        shapes[INPUT] = (first.in_channels, first.height, first.width)
    writer = Writer(Graph(name), weights, first.batch, integer)
    for tensor, shape in shapes.items():
        writer.tensor(tensor, shape)
    current = write_chain(ops, partial(write_layer, writer))
    return _with_output(writer.graph, current)


def _check_chain(ops: Sequence[OpSpec], name: str) -> None:
    """Raise `SpecError` unless each operator takes what the one before it returns."""
    if not ops:
        raise SpecError(f"network '{name}' has no operators")
    check_alone(ops)
    NetworkSpec.of(name, tuple(ops))
    for position, (before, op) in enumerate(pairwise(ops), 1):
        where = f"network '{name}': operator {position} ({op.key})"
        if op.batch != before.batch:
            raise SpecError(f"{where} has batch {op.batch}, the one before it {before.batch}")
        first = op.layers[0].traits
        if is_flat(ops[:position]) and not (first.is_flat or first.is_identity):
            raise SpecError(f"{where} does not take the (batch, features) of a linear operator")


def _with_output(graph: Graph, name: str) -> Graph:
    """The graph with this tensor, which its last node computes, under the name "output"."""
    graph.tensors[OUTPUT] = replace(graph.tensors.pop(name), name=OUTPUT)
    graph.nodes[-1] = replace(graph.nodes[-1], output=OUTPUT)
    return graph
