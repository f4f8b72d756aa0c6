"""Which ONNX nodes an operator of ours describes, which are estimated by name, and which are
refused; checked against ONNX Runtime where it decides."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
from test_onnx import FUSING, Writer, keys, kinds

from latency.errors import SpecError
from latency.graphs.fusion import USUAL
from latency.graphs.kernels import kernels_of
from latency.graphs.reader import parse_graph


def _read(w, result, opset=17):
    graph = parse_graph(w.model(result, opset=opset).SerializeToString(), "small.onnx")
    return kernels_of(graph, USUAL)


def _node(kind, **attributes):
    return lambda w, x: w(kind, x, **attributes)


def _reduced(kind, *axes, **attributes):
    """Axes as an input, as later opsets have them."""
    return lambda w, x: w(kind, x, w.constant([*axes]), **attributes)


def _transposed(group=1, size=(2, 2), outside=8, **attributes):
    def write(w, x):
        weight = w.constant(np.zeros((16, outside, *size)))
        return w("ConvTranspose", x, weight, kernel_shape=[*size], group=group, **attributes)

    return write


def _resized(*scales, mode="nearest"):
    return lambda w, x: w("Resize", x, "", w.constant(np.array([1, 1, *scales])), mode=mode)


def _sliced(axis, start, end, step=1):
    def write(w, x):
        return w("Slice", x, *(w.constant([one]) for one in (start, end, axis, step)))

    return write


def _split(axis, *sizes):
    return lambda w, x: w("Split", x, w.constant([*sizes]), outputs=len(sizes), axis=axis)[0]


def _padded(*pads, **attributes):
    return lambda w, x: w("Pad", x, w.constant([*pads]), **attributes)


def _joined(axis):
    return lambda w, x: w("Concat", x, x, axis=axis)


MAP, WIDE, ROWS = (2, 16, 14, 14), (2, 16, 4, 9), (2, 16, 14)

DESCRIBED = [
    (MAP, _node("GlobalAveragePool"), "pool-14x14x16-16-k14-s1-b2"),
    (WIDE, _node("GlobalAveragePool"), "pool-6x6x16-16-k6-s1-b2"),
    ((2, 16, 16), _node("GlobalAveragePool"), "pool-4x4x16-16-k4-s1-b2"),
    (MAP, _node("ReduceMean", axes=[2, 3]), "pool-14x14x16-16-k14-s1-b2"),
    (MAP, _node("ReduceMean", axes=[-1, -2], keepdims=0), "pool-14x14x16-16-k14-s1-b2"),
    (MAP, _reduced("ReduceSum", 2, 3), "pool-14x14x16-16-k14-s1-b2"),
    (WIDE, _reduced("ReduceSum", 3, 2, keepdims=0), "pool-6x6x16-16-k6-s1-b2"),
    (MAP, _node("Transpose", perm=[0, 2, 3, 1]), "transpose-14x14x16-16-k1-s1-b2"),
    ((2, 7, 9, 16), _node("Transpose", perm=[0, 3, 1, 2]), "transpose-7x9x16-16-k1-s1-b2"),
    (ROWS, _node("Transpose", perm=[0, 2, 1]), "transpose-14x1x16-16-k1-s1-b2"),
    ((2, 4, 8, 7, 9), _node("Transpose", perm=[0, 2, 1, 3, 4]), "transpose-8x63x4-4-k1-s1-b2"),
    (MAP, _sliced(1, 3, 8), "slice-14x14x16-5-k1-s1-b2"),
    (MAP, _split(1, 8, 8), "slice-14x14x16-8-k1-s1-b2"),
    (MAP, _padded(0, 0, 0, 0, 0, 4, 0, 0), "concat-14x14x16-20-k1-s1-b2"),
    (MAP, _joined(1), "concat-14x14x16-32-k1-s1-b2"),
    (MAP, _joined(-3), "concat-14x14x16-32-k1-s1-b2"),
    (MAP, _resized(2.0, 2.0), "resize-14x14x16-16-k1-s2-b2"),
    (WIDE, _resized(3.0, 3.0), "resize-4x9x16-16-k1-s3-b2"),
    (MAP, _transposed(strides=[2, 2]), "conv_transpose-14x14x16-8-k2-s2-b2"),
    (
        WIDE,
        _transposed(size=(3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
        "conv_transpose-4x9x16-8-k3-s2-b2",
    ),
    (MAP, _transposed(strides=[2, 2], size=(3, 3), pads=[0, 1, 1, 0]),
     "conv_transpose-14x14x16-8-k3-s2-b2"),
]  # fmt: skip
"""Nodes that an operator describes: with the same tensors moved and the same arithmetic."""

ESTIMATED = [
    (MAP, _node("GlobalMaxPool"), "pool-14x14x16-16-k14-s1-b2", "GlobalMaxPool is taken as an"),
    ((2, 16, 7, 8), _node("GlobalAveragePool"), "pool-7x7x16-16-k7-s1-b2",
     "GlobalAveragePool of 56 pixels is estimated from square maps"),
    (MAP, _node("ReduceMax", axes=[2, 3]), "pool-14x14x16-16-k14-s1-b2", "ReduceMax is taken as"),
    (MAP, _node("ReduceMean", axes=[1]), "pool-4x4x196-196-k4-s1-b2",
     r"ReduceMean over axes \(1,\)"),
    (MAP, _node("ReduceMean", axes=[1], keepdims=0), "pool-4x4x196-196-k4-s1-b2",
     r"ReduceMean over axes \(1,\)"),
    (MAP, _node("ReduceMax", axes=[0]), "pool-1x1x3136-3136-k1-s1", r"ReduceMax over axes \(0,\)"),
    (MAP, _node("ReduceMean", axes=[1, 2, 3]), "pool-56x56x1-1-k56-s1-b2",
     r"ReduceMean over axes \(1, 2, 3\)"),
    (MAP, _node("ReduceMean"), "pool-79x79x1-1-k79-s1", r"ReduceMean over axes \(0, 1, 2, 3\)"),
    (ROWS, _node("ReduceMean", axes=[1]), "pool-4x4x14-14-k4-s1-b2", "ReduceMean over"),
    (MAP, _node("Transpose", perm=[0, 1, 3, 2]), "transpose-14x14x16-16-k1-s1-b2",
     r"Transpose by \(0, 1, 3, 2\)"),
    (ROWS, _node("Transpose", perm=[1, 0, 2]), "transpose-14x1x16-16-k1-s1-b2",
     r"Transpose by \(1, 0, 2\)"),
    (MAP, _sliced(2, 0, 7), "slice-7x14x32-16-k1-s1-b2", "Slice is estimated"),
    (MAP, _sliced(1, 0, 16, 2), "slice-14x14x16-8-k1-s1-b2", "Slice is estimated"),
    (MAP, _split(1, 4, 12), "slice-14x14x16-8-k1-s1-b2", "Split is taken as"),
    (MAP, _split(2, 7, 7), "slice-14x14x16-8-k1-s1-b2", "Split is taken as"),
    (MAP, _padded(0, 0, 1, 1, 0, 0, 1, 1), "slice-16x16x32-16-k1-s1-b2", "Pad is estimated"),
    (MAP, _padded(0, 0, 1, 1, 0, 0, 1, 1, mode="reflect"), "slice-16x16x32-16-k1-s1-b2", "Pad is"),
    (MAP, _joined(2), "slice-28x14x32-16-k1-s1-b2", "Concat is estimated"),
    (MAP, _joined(-1), "slice-14x28x32-16-k1-s1-b2", "Concat is estimated"),
    (MAP, lambda w, x: w("Gather", x, w.constant([1, 2, 3]), axis=3), "slice-14x3x32-16-k1-s1-b2",
     "Gather is estimated"),
    (MAP, lambda w, x: w("Tile", x, w.constant([1, 1, 2, 1])), "slice-28x14x32-16-k1-s1-b2",
     "Tile is estimated"),
]  # fmt: skip
"""Nodes of which the bytes alone are known: a warning names each."""

REFUSED = [
    (MAP, _transposed(2, outside=4, strides=[2, 2]), r"28x28, kernel \(2, 2\), 2 group"),
    (MAP, _transposed(dilations=[2, 2], strides=[1, 1], pads=[1] * 4), "from 14x14 to 14x14"),
    (MAP, _transposed(strides=[2, 2], output_padding=[1, 1]), "from 14x14 to 29x29"),
    (MAP, _transposed(strides=[2, 2], pads=[0, 0, 1, 0]), "from 14x14 to 27x28"),
    (MAP, _transposed(strides=[2, 1], size=(2, 1)), r"kernel \(2, 1\)"),
    (MAP, _transposed(strides=[2, 1], size=(2, 2), pads=[0, 0, 0, 1]), "from 14x14 to 28x14"),
    (MAP, _resized(0.5, 0.5), "from 14x14 to 7x7"),
    (MAP, _resized(1.5, 1.5), "from 14x14 to 21x21"),
    (MAP, _resized(2.0, 1.0), "from 14x14 to 28x14"),
    (MAP, _resized(2.0, 4.0), "from 14x14 to 28x56"),
    (MAP, _resized(2.0, 2.0, mode="linear"), r"a resize \(linear\)"),
    (MAP, _resized(2.0, 2.0, mode="cubic"), r"a resize \(cubic\)"),
]
"""Nodes whose arithmetic no operator of ours has."""


@pytest.mark.parametrize(("shape", "write", "key"), DESCRIBED)
def test_a_node_is_described_by_an_operator_without_a_warning(shape, write, key):
    w = Writer(shape)
    found = _read(w, write(w, "x"))
    assert (keys(found), found.warnings) == ([key], ())
    assert found.kernels[0].bounds is None


@pytest.mark.parametrize(("shape", "write", "key", "warning"), ESTIMATED)
def test_a_node_that_is_estimated_is_named_by_a_warning(shape, write, key, warning):
    w = Writer(shape)
    found = _read(w, write(w, "x"))
    assert keys(found) == [key]
    with pytest.raises(SpecError, match=warning):
        raise SpecError("; ".join(found.warnings))


@pytest.mark.parametrize(("shape", "write", "reason"), REFUSED)
def test_a_node_that_no_operator_describes_is_refused_by_name(shape, write, reason):
    w = Writer(shape)
    with pytest.raises(SpecError, match=rf"node '(Conv|Resize).*{reason}.* in no table; one"):
        _read(w, write(w, "x"))


@pytest.mark.parametrize(("height", "width", "side"), [(7, 8, 7), (15, 20, 17), (1, 2, 1)])
def test_a_map_that_is_not_square_is_between_squares_by_its_bytes(height, width, side):
    w = Writer((2, 16, height, width))
    (kernel,) = _read(w, w("GlobalAveragePool", "x")).kernels
    assert kernel.op.key == f"pool-{side}x{side}x16-16-k{side}-s1-b2"
    other = kernel.bounds.other
    assert abs(other.kernel - side) == 1
    assert (other.height, other.width) == (other.kernel, other.kernel)
    assert kernel.bounds.interpolate(side**2, other.kernel**2) == pytest.approx(height * width)


@pytest.mark.parametrize(
    ("axes", "key"),
    [((1, 2), "pool-14x14x16-16-k14-s1-b2"), ((3,), "pool-4x4x196-196-k4-s1-b2")],
)
def test_axes_are_those_of_the_tensor_where_channels_are_last(axes, key):
    w = Writer(MAP)
    found = _read(w, w("ReduceMean", w("Transpose", "x", perm=[0, 2, 3, 1]), axes=[*axes]))
    assert keys(found)[1] == key
    assert bool(found.warnings) == (axes == (3,))


def test_axes_are_read_of_either_an_attribute_or_an_input():
    w = Writer(MAP)
    found = _read(w, w("ReduceMean", "x", w.constant([2, 3]), keepdims=0), opset=18)
    assert (keys(found), found.warnings) == (["pool-14x14x16-16-k14-s1-b2"], ())


def _conv(w, x="x"):
    return w.conv(x)


def _normed(w):
    return w("BatchNormalization", w.conv("x"), *(w.constant(np.ones(16)) for _ in range(4)))


def _product(kind="MatMul", outside=10):
    def write(w):
        weight = w.constant(np.ones((w.shape[-1], outside)))
        return w(kind, "x", weight)

    return write


def _through(kind, before):
    return lambda w: w(kind, before(w))


def _reshaped(before, *sizes):
    return lambda w: w("Reshape", before(w), w.constant([*sizes]))


IMAGE = (1, 16, 14, 14)
BIASES = [
    (IMAGE, _conv, (1, 16, 1, 1), True),
    (IMAGE, _conv, (16, 1, 1), True),
    (IMAGE, _normed, (1, 16, 1, 1), True),
    (IMAGE, _conv, (), False),
    (IMAGE, _conv, (1, 1, 1, 1), False),
    (IMAGE, _conv, (14,), False),
    (IMAGE, _conv, (1, 16, 14, 14), False),
    (IMAGE, _through("Relu", _conv), (1, 16, 1, 1), False),
    ((4, 64), _product(), (10,), True),
    ((4, 64), _product(), (1, 10), True),
    ((4, 64), _product(), (4, 10), True),
    ((4, 64), _product(), (), False),
    ((4, 64), _product("Gemm"), (10,), False),
    ((4, 64), _through("Relu", _product("Gemm")), (10,), False),
    ((4, 64), _reshaped(_product(), 4, 10, 1, 1), (1, 10, 1, 1), False),
    ((2, 7, 64), _product(), (10,), True),
    ((2, 7, 64), _product(), (1, 10), False),
    ((2, 7, 64), _product(), (2, 7, 10), False),
    ((4, 8, 8), lambda w: w("MatMul", "x", "x"), (8,), False),
    (IMAGE, lambda w: _transposed(strides=[2, 2])(w, "x"), (1, 8, 1, 1), False),
]
"""Input, what is before an Add, the shape of the constant, and whether it becomes a bias."""


def _optimised(model, path):
    """Kinds of the nodes that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize(("shape", "before", "sizes", "is_bias"), BIASES)
def test_a_constant_is_a_bias_where_onnx_runtime_folds_it_and_else_a_kernel(
    shape, before, sizes, is_bias, tmp_path
):
    w = Writer(shape)
    model = w.model(y := w("Add", before(w), w.constant(np.full(sizes, 0.1))))
    assert ("Add" not in _optimised(model, tmp_path / "optimised.onnx")) == is_bias
    found = w.kernels(y)
    assert ("add" not in kinds(found)) == is_bias
    if not is_bias:
        added = next(op for op in found.ops if op.kind == "add")
        out = math.prod(parse_graph(model.SerializeToString(), "x").shapes[y])
        assert added.batch * math.prod(added.out_shape) == out


def test_a_constant_before_a_convolution_is_no_bias_and_before_a_product_is(tmp_path):
    for shape, before, sizes in ((IMAGE, _conv, (1, 16, 1, 1)), ((2, 7, 64), _product(), (10,))):
        w = Writer(shape)
        y = w("Add", w.constant(np.full(sizes, 0.1)), before(w))
        is_kernel = "Add" in _optimised(w.model(y), tmp_path / "optimised.onnx")
        assert ("add" in kinds(w.kernels(y))) == is_kernel == (before is _conv)


def test_a_constant_is_added_in_the_plain_layout(tmp_path):
    w = Writer()
    y = w.conv(w("Add", w("Relu", w.conv("x")), w.constant(np.full((1, 16, 1, 1), 0.1))))
    found = [op.kind for op in w.kernels(y, fusion=FUSING).ops]
    executed = _optimised(w.model(y), tmp_path / "optimised.onnx")
    assert found == [*["reorder", "conv", "reorder", "add"], *["reorder", "conv", "reorder"]]
    assert len(executed) == len(found)
