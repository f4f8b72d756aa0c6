"""What is read of ONNX nodes one by one: sizes, constants, activations, integers."""

import numpy as np
import pytest
from onnx import TensorProto
from test_onnx import Writer, keys, kinds, open_model

from latency.errors import SpecError
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import kernels_of
from latency.graphs.reader import parse_graph, read_graph


def read(w, *results):
    return parse_graph(w.model(*results).SerializeToString(), "small.onnx")


def test_the_batch_of_a_file_is_that_which_was_asked_for(tmp_path):
    path = tmp_path / "open.onnx"
    path.write_bytes(open_model("n", 16, 14, 14))
    assert {op.batch for op in kernels_of(read_graph(path, batch=4)).ops} == {4}
    assert {op.batch for op in kernels_of(read_graph(path)).ops} == {1}


def test_inputs_and_outputs_of_a_graph_are_its_own():
    w = Writer()
    y = w.conv("x")
    z = w("Relu", y)
    graph = read(w, z, y)
    assert (graph.name, graph.inputs, graph.outputs) == ("small", ("x",), (z, y))
    assert graph.shapes[y] == (1, 16, 14, 14)
    assert graph.nodes[0].attributes["kernel_shape"] == [3, 3]


@pytest.mark.parametrize(
    ("kind", "attributes", "key"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}, "max_pool-14x14x16-16-k3-s2"),
        ("MaxPool", {"kernel_shape": [2, 2]}, "max_pool-14x14x16-16-k2-s1"),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, "pool-14x14x16-16-k2-s2"),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2]}, "pool-13x13x16-16-k3-s2"),
        ("AveragePool", {"kernel_shape": [4, 4]}, "pool-14x14x16-16-k4-s1"),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 1}, "pool-14x14x16-16-k14-s1"),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, "pool-14x14x16-16-k14-s1"),
        ("Softmax", {"axis": 1}, "softmax-14x14x16-16-k1-s1"),
        ("Sqrt", {}, "activation-14x14x16-16-k1-s1-relu"),
        ("Sigmoid", {}, "activation-14x14x16-16-k1-s1-sigmoid"),
        ("LRN", {"size": 3}, "layer_norm-14x14x16-16-k1-s1"),
    ],
)
def test_a_node_is_the_operator_of_its_sizes(kind, attributes, key):
    w = Writer()
    found = kernels_of(read(w, w(kind, "x", **attributes)), USUAL)
    assert keys(found) == [key]
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("shape", "kind", "key"),
    [
        ((2, 14, 14), "add", "add-14x1x14-14-k1-s1-b2"),
        ((2, 14), "add", "add-1x1x14-14-k1-s1-b2"),
        ((14,), "add", "add-1x1x14-14-k1-s1"),
        ((2, 4, 6, 5, 3), "add", "add-6x15x4-4-k1-s1-b2"),
    ],
)
def test_tensors_of_any_rank_are_images(shape, kind, key):
    w = Writer(shape)
    (y,) = kernels_of(read(w, w("Add", "x", "x")), USUAL).ops
    assert y.key.replace("multiply", kind) == key


@pytest.mark.parametrize(
    ("shape", "outside", "key"),
    [
        ((1, 64), 10, "linear-1x1x64-10-k1-s1"),
        ((4, 64), 10, "linear-1x1x64-10-k1-s1-b4"),
        ((2, 7, 64), 10, "matmul-1x7x64-10-k1-s1-b2"),
        ((2, 3, 7, 64), 10, "matmul-3x7x64-10-k1-s1-b2"),
    ],
)
def test_rows_of_a_matrix_are_pixels(shape, outside, key):
    w = Writer(shape)
    y = w("MatMul", "x", w.constant(np.zeros((shape[-1], outside))))
    assert keys(kernels_of(read(w, y), USUAL)) == [key]


@pytest.mark.parametrize("shape", [(2, 7, 64), (2, 3, 7, 64), (7, 64)])
def test_a_norm_over_the_last_axis_has_its_channels_there(shape):
    w = Writer(shape)
    y = w("LayerNormalization", "x", *(w.constant(np.ones(64)) for _ in range(2)))
    (op,) = kernels_of(read(w, y), USUAL).ops
    assert (op.kind, op.in_channels, op.batch) == ("layer_norm", 64, shape[0])
    assert op.height * op.width == np.prod(shape) / 64 / shape[0]


@pytest.mark.parametrize(
    ("channels", "key"),
    [
        ((1, 1), "concat-8x8x1-2-k1-s1"),
        ((12, 4), "concat-8x8x12-16-k1-s1"),
        ((3, 5, 8), "concat-8x8x3-16-k1-s1"),
    ],
)
def test_a_concatenation_adds_to_the_channels_of_its_first_input(channels, key):
    w = Writer((1, sum(channels), 8, 8))
    parts = w("Split", "x", w.constant(list(channels)), outputs=len(channels), axis=1)
    found = kernels_of(read(w, w("Concat", *parts, axis=1)), USUAL)
    assert keys(found)[-1] == key


@pytest.mark.parametrize(
    ("kind", "other", "expected"),
    [
        ("Add", "x", "add"),
        ("Sub", "x", "add"),
        ("Mul", "x", "multiply"),
        ("Div", "x", "multiply"),
        ("Mul", "mean", "scale"),
        ("Mul", "constant", "multiply"),
    ],
)
def test_arithmetic_is_by_what_is_beside_it(kind, other, expected):
    w = Writer()
    beside = {"x": "x", "mean": w("GlobalAveragePool", "x"), "constant": w.constant(2.5)}[other]
    graph = kernels_of(read(w, w(kind, "x", beside)), USUAL)
    assert graph.ops[-1].key == f"{expected}-14x14x16-16-k1-s1"


def test_a_gate_of_another_tensor_is_no_activation():
    w = Writer()
    y = w.conv("x")
    z = w("Mul", w("MaxPool", y, kernel_shape=[1, 1]), w("Sigmoid", y))
    assert kinds(kernels_of(read(w, z), USUAL)) == ["conv", "max_pool", "activation", "multiply"]


def test_a_gate_that_others_read_stays_a_kernel():
    w = Writer()
    gate = w("Sigmoid", "x")
    y = w("Mul", "x", gate)
    assert kinds(kernels_of(read(w, y, gate), USUAL)) == ["activation", "multiply"]
    assert keys(kernels_of(read(w, y), USUAL)) == ["activation-14x14x16-16-k1-s1-silu"]


@pytest.mark.parametrize("kind", ["Identity", "Squeeze", "Unsqueeze"])
def test_a_limit_that_is_passed_on_is_the_same_limit(kind):
    w = Writer()
    six = w.constant([6.0] if kind == "Squeeze" else 6.0)
    axes = [] if kind == "Identity" else [w.constant([0])]
    limit = w(kind, six, *axes)
    if kind == "Unsqueeze":
        limit = w("Squeeze", limit, w.constant([0]))
    y = w("Clip", w.conv("x"), w.constant(0.0), limit)
    assert keys(kernels_of(read(w, y), USUAL)) == ["conv-14x14x16-16-k3-s1-relu6"]


def test_a_number_that_a_node_holds_is_a_constant_without_axes():
    w = Writer()
    three = w("Constant", value_float=3.0)
    graph = read(w, w("Mul", "x", three))
    assert graph.shapes[three] == ()
    assert graph.constants[three] == 3.0
    assert [node.kind for node in graph.nodes] == ["Mul"]


def test_a_range_is_as_long_as_from_its_start_to_its_limit():
    w = Writer((1, 16, 8, 8))
    some = w("Range", *(w.constant(number) for number in (100, 104, 1)))
    shape = w("Sub", some, w.constant([99, 85, 94, 95]))
    y = w("Reshape", w.conv("x"), shape)
    (conv, softmax) = kernels_of(read(w, w("Softmax", y, axis=1)), USUAL).ops
    assert conv.key == "conv-8x8x16-16-k3-s1"
    assert softmax.key == "softmax-8x8x16-16-k1-s1"


def _convolution_of(w, x):
    packed = w.constant(np.zeros((16, 16, 3, 3)), dtype=np.uint8)
    return read(w, w("Conv", x, w("DequantizeLinear", packed, *w.scale())))


def _reshaped(w, x):
    return w("Reshape", x, w.constant([1, 16, 14, 14]))


def _transposed(w, x):
    return w("Transpose", x, perm=[0, 1, 3, 2])


@pytest.mark.parametrize("moved", [_reshaped, _transposed])
def test_integers_that_are_only_moved_stay_integers(moved):
    w = Writer()
    with pytest.raises(SpecError, match="computes in 8-bit integers"):
        _convolution_of(w, moved(w, w.quantised("x")))
    w = Writer()
    assert "Conv" in {node.kind for node in _convolution_of(w, moved(w, "x")).nodes}


def test_integers_that_are_computed_with_in_floats_are_none():
    w = Writer()
    assert "Conv" in {node.kind for node in _convolution_of(w, w("Relu", w.quantised("x"))).nodes}


def test_a_cast_to_another_type_is_a_kernel():
    w = Writer((1, 16, 14, 14), TensorProto.UINT8)
    y = w("Relu", w("Cast", "x", to=TensorProto.FLOAT))
    assert kinds(kernels_of(read(w, y), USUAL)) == ["slice", "activation"]


def test_an_upsampling_of_old_files_is_a_resize():
    w = Writer()
    y = w("Upsample", "x", w.constant(np.array([1, 1, 2.0, 2.0])), mode="nearest")
    content = w.model(y, opset=9).SerializeToString()
    assert keys(kernels_of(parse_graph(content, "old.onnx"), USUAL)) == ["resize-14x14x16-16-k1-s2"]


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(SpecError, match=r"broken\.onnx: not an ONNX file"):
        read_graph(tmp_path / "broken.onnx")
    with pytest.raises(SpecError, match=r"none\.onnx: No such file"):
        read_graph(tmp_path / "none.onnx")


@pytest.mark.parametrize(("count", "is_kept"), [(64, True), (65, False)])
def test_values_of_at_most_64_numbers_are_kept(count, is_kept):
    w = Writer()
    name = w.constant(np.arange(float(count)))
    graph = read(w, w("Relu", "x"))
    assert (graph.constants[name] is not None) == is_kept
    assert graph.shapes[name] == (count,)


def test_a_quantised_convolution_with_a_bias_in_floats_is_one():
    w = Writer()
    packed = w.constant(np.zeros((16, 16, 3, 3)), dtype=np.uint8)
    weight = w("DequantizeLinear", packed, *w.scale())
    with pytest.raises(SpecError, match="computes in 8-bit integers"):
        read(w, w("Conv", w.quantised("x"), weight, w.constant(np.zeros(16))))


def test_channels_that_were_moved_to_the_end_are_channels():
    w = Writer()
    last = w("Transpose", "x", perm=[0, 2, 3, 1])
    assert keys(kernels_of(read(w, w("Softplus", last)), USUAL)) == [
        "transpose-14x14x16-16-k1-s1",
        "activation-14x14x16-16-k1-s1-sigmoid",
    ]
    w = Writer()
    other = w("Transpose", "x", perm=[0, 2, 1, 3])
    (_, activation) = kernels_of(read(w, w("Softplus", other)), USUAL).ops
    assert (activation.height, activation.width, activation.in_channels) == (16, 14, 14)


def test_sizes_that_are_not_square_are_told():
    w = Writer()
    y = w("MaxPool", "x", kernel_shape=[2, 8], strides=[1, 4])
    found = kernels_of(read(w, y), USUAL)
    assert keys(found) == ["max_pool-14x14x16-16-k4-s2"]
    assert found.warnings == ("a window of 2x8 is taken as 4x4", "a stride of 1x4 is taken as 2x2")


def test_a_convolution_of_one_dimension_is_told():
    w = Writer((1, 16, 14))
    y = w("Conv", "x", w.constant(np.zeros((8, 16, 3))), pads=[1, 1], kernel_shape=[3])
    found = kernels_of(read(w, y), USUAL)
    assert found.warnings == ("Conv of 1 dimensions is taken as one of 2",)
    assert (found.ops[0].in_channels, found.ops[0].out_channels) == (16, 8)
