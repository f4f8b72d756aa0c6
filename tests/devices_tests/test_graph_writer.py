"""The writer of ONNX graphs: names, types of constants, and the random networks written with it."""

from hashlib import sha256

import numpy as np
import onnx
import pytest

from devices.export.graph_writer import IR_VERSION, OPSET, GraphWriter
from devices.kernel_suite.random_cnns import random_cnn
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import kernels_of
from latency.graphs.reader import parse_graph
from latency.operators.kinds import ACTIVATIONS


def _names(writer):
    return [each.name for each in (*writer.nodes, *writer.constants)]


def test_nodes_are_named_by_kind_and_number_and_constants_by_number():
    writer = GraphWriter()
    writer.gelu(writer.activate("input", "relu6"))
    nodes = ["Clip_0", "Div_1", "Erf_2", "Add_3", "Mul_4", "Mul_5"]
    assert _names(writer) == nodes + [f"w{number}" for number in range(5)]


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "none"])
def test_every_node_of_an_activation_is_named_after_its_layer(activation):
    writer = GraphWriter()
    writer.scope = "3.expand"
    writer.activate("input", activation)
    assert _names(writer)
    assert all(name.startswith("3.expand.") for name in _names(writer))


def test_no_activation_writes_nothing():
    writer = GraphWriter()
    assert writer.activate("input", "none") == "input"
    assert not writer.nodes


def test_constants_are_of_the_graphs_type_but_integers_and_those_given_a_type():
    writer = GraphWriter(np.float16)
    writer.constant(np.ones(2))
    writer.constant([1, 2])
    writer.constant(0, dtype=np.uint8)
    types = [onnx.numpy_helper.to_array(each).dtype for each in writer.constants]
    assert types == ["float16", "int64", "uint8"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_graph_of_every_part_is_sound(dtype):
    writer = GraphWriter(dtype)
    x = writer.upsample(writer.shuffle("input", 2, (0, 4, 3, 3)), 2)
    x = writer.matmul(writer.channels_last(x), np.ones((4, 6)), np.zeros(6))
    first, _ = writer.outputs("Split", [x, writer.constant([3, 3])], 2, axis=3)
    model = writer.proto("parts", {"input": (2, 4, 3, 3)}, {writer.channels_first(first): None})
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    assert [size.dim_value for size in sizes] == [2, 3, 6, 6]
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)


@pytest.mark.parametrize(
    ("seed", "kernels", "digest"),
    [
        (2, 40, "b2e98046771aae57"),
        (3, 34, "8ab5bae51a58486d"),
        (5, 86, "0a98f953c13c0ff0"),
        (6, 53, "16a791f24ead1f1e"),
    ],
)
def test_the_random_networks_are_those_that_suites_were_measured_in(seed, kernels, digest):
    """Kinds of nodes, their attributes and how they are connected; the kernels' sizes."""
    content = random_cnn(seed)
    nodes = [node.SerializeToString() for node in onnx.load_from_string(content).graph.node]
    keys = [op.key.encode() for op in kernels_of(parse_graph(content, "random"), USUAL).ops]
    assert len(keys) == kernels
    assert sha256(b"\n".join(nodes + keys)).hexdigest()[:16] == digest
