"""ONNX files: read as shapes, split into kernels, and refused in words where they are broken."""

import random
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from devices.export.graph_writer import OPSET, GraphWriter
from latency.errors import LatError, SpecError
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import kernels_of
from latency.graphs.reader import parse_graph, read_graph

FUSING = Fusion(
    frozenset(
        [
            *(f"conv+{name}" for name in ("norm", "relu", "relu6", "h_swish", "sigmoid", "add")),
            *("conv_add+relu", "norm+relu", "pad+conv", "matmul+relu"),
        ]
    ),
    frozenset(["conv", "conv_add", "max_pool", "pool"]),
    frozenset(["concat", "add", "activation"]),
    8,
)


class Writer(GraphWriter):
    """A small ONNX model, node by node."""

    def __init__(self, shape=(1, 16, 14, 14), kind=TensorProto.FLOAT):
        super().__init__()
        self.shape, self.kind = shape, kind

    def __call__(self, kind, *inputs, outputs=1, **attributes):
        if outputs > 1:
            return self.outputs(kind, inputs, outputs, **attributes)
        return self.node(kind, inputs, **attributes)

    def conv(self, x, inside=16, outside=16, kernel=3, stride=1, group=1, **attributes):
        weight = self.constant(np.zeros((outside, inside // group, kernel, kernel)))
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": group}
        return self("Conv", x, weight, pads=[kernel // 2] * 4, **sizes, **attributes)

    def scale(self):
        return self.constant(0.1), self.constant(0, dtype=np.uint8)

    def quantised(self, x):
        """Through 8-bit integers and back."""
        return self("DequantizeLinear", self("QuantizeLinear", x, *self.scale()), *self.scale())

    def model(self, *results, opset=OPSET):
        model = self.proto("small", {"x": self.shape}, dict.fromkeys(results), opset)
        model.graph.input[0].type.tensor_type.elem_type = self.kind
        return model

    def kernels(self, *results, fusion=FUSING):
        graph = parse_graph(self.model(*results).SerializeToString(), "small.onnx")
        return kernels_of(graph, fusion)


def keys(graph):
    return [op.key for op in graph.ops]


def kinds(graph):
    return [op.kind for op in graph.ops if op.kind != "reorder"]


def test_a_convolution_takes_in_its_norm_and_activation():
    w = Writer((1, 3, 32, 32))
    y = w.conv("x", 3, 8, 3, 2)
    y = w("BatchNormalization", y, *(w.constant(np.ones(8)) for _ in range(4)))
    y = w("Relu", y)
    assert keys(w.kernels(y, fusion=USUAL)) == ["conv-32x32x3-8-k3-s2-relu"]


def test_what_a_runtime_does_not_fuse_stays_a_kernel():
    w = Writer()
    y = w("Softplus", w.conv("x"))
    assert kinds(w.kernels(y)) == ["conv", "activation"]


def test_an_output_that_two_read_is_not_fused_away():
    w = Writer()
    y = w.conv("x")
    z = w("Relu", y)
    assert kinds(w.kernels(w("Add", w("Softplus", y), z))) == [
        "conv",
        "activation",
        "activation",
        "add",
    ]


@pytest.mark.parametrize("opset", [13, 17])
def test_patterns_of_exporters_are_one_activation(opset):
    w = Writer()

    def number(value):
        return w.constant(np.array(value, float))

    def silu(x):
        return w("Mul", x, w("Sigmoid", x))

    def h_swish(x):
        return w("Mul", w("HardSigmoid", x, alpha=1 / 6), x)

    def clipped_h_swish(x):
        gate = w("Clip", w("Add", x, number(3)), number(0), number(6))
        return w("Div", w("Mul", x, gate), number(6))

    def gelu(x):
        erf = w("Erf", w("Div", x, number(2**0.5)))
        return w("Mul", w("Mul", x, w("Add", erf, number(1))), number(0.5))

    x = "x"
    for pattern in (silu, h_swish, clipped_h_swish, gelu):
        x = w("MaxPool", pattern(x), kernel_shape=[1, 1])
    content = w.model(x, opset=opset).SerializeToString()
    found = [op.activation for op in kernels_of(parse_graph(content, "x"), USUAL).ops]
    assert found[::2] == ["silu", "h_swish", "h_swish", "gelu"]


def test_a_residual_is_taken_in_by_the_later_convolution():
    w = Writer()
    first = w("Relu", w.conv("x"))
    y = w("Relu", w("Add", w.conv(first), first))
    found = w.kernels(w("GlobalAveragePool", y))
    assert kinds(found) == ["conv", "conv_add", "pool"]
    assert found.ops[2].activation == "relu"
    assert kinds(w.kernels(w("GlobalAveragePool", y), fusion=USUAL)).count("add") == 1


def test_reorders_stand_between_layouts():
    w = Writer()
    y = w.conv("x")
    y = w("Softmax", y, axis=1)
    y = w.conv(y)
    found = [op.kind for op in w.kernels(w("Relu", y)).ops]
    assert found == ["reorder", "conv", "reorder", "softmax", "reorder", "conv", "reorder"]
    assert [op.kind for op in w.kernels(w("Relu", y), fusion=USUAL).ops].count("reorder") == 0


def test_sizes_of_grouped_dilated_and_unpadded_convolutions():
    w = Writer((1, 16, 32, 32))
    y = w.conv("x", 16, 32, 3, group=4)
    y = w("Conv", y, w.constant(np.zeros((8, 32, 3, 3))), dilations=[2, 2], pads=[2, 2, 2, 2])
    y = w("Conv", y, w.constant(np.zeros((8, 8, 5, 5))))
    assert keys(w.kernels(y, fusion=USUAL)) == [
        "conv-32x32x16-32-k3-s1-g4",
        "conv-32x32x32-8-k3-s1-d2",
        "conv-28x28x8-8-k5-s1",
    ]


@pytest.mark.parametrize(
    ("sizes", "side", "other", "share"),
    [((1, 7), 3, 1, 0.25), ((7, 1), 3, 1, 0.25), ((1, 3), 1, 3, 0.25), ((3, 5), 3, 5, 0.375)],
)
def test_a_kernel_that_is_not_square_is_between_squares(sizes, side, other, share):
    w = Writer()
    height, width = sizes
    pads = [height // 2, width // 2] * 2
    y = w("Relu", w("Conv", "x", w.constant(np.zeros((16, 16, *sizes))), pads=pads))
    found = w.kernels(y)
    assert found.warnings == (f"a kernel of {height}x{width} is estimated from square ones",)
    (kernel,) = (kernel for kernel in found.kernels if kernel.op.kind == "conv")
    assert kernel.op.key == f"conv-14x14x16-16-k{side}-s1-relu"
    assert kernel.bounds.other == replace(kernel.op, kernel=other)
    assert kernel.bounds.share == pytest.approx(share)
    macs = kernel.op.macs + share * (kernel.bounds.other.macs - kernel.op.macs)
    assert macs == pytest.approx(14 * 14 * 16 * 16 * height * width)


def test_a_kernel_of_the_area_of_a_square_has_no_other_beside_it():
    w = Writer()
    y = w("Conv", "x", w.constant(np.zeros((16, 16, 1, 9))), pads=[0, 4, 0, 4])
    (kernel,) = (kernel for kernel in w.kernels(y).kernels if kernel.op.kind == "conv")
    assert (kernel.op.kernel, kernel.bounds) == (3, None)


def test_an_unknown_operator_is_estimated_and_named():
    w = Writer()
    y = w("Softsign", w.conv("x"))
    found = w.kernels(y)
    assert found.warnings == ("Softsign is estimated from its bytes",)
    assert kinds(found) == ["conv", "slice"]


def test_steps_into_integers_and_back_are_estimated_and_named():
    w = Writer()
    y = w.quantised(w("Relu", w.conv("x")))
    found = w.kernels(w.conv(y), fusion=USUAL)
    assert keys(found) == [
        "conv-14x14x16-16-k3-s1-relu",
        *["slice-14x14x32-16-k1-s1"] * 2,
        "conv-14x14x16-16-k3-s1",
    ]
    assert found.warnings == tuple(
        f"{kind} is estimated from its bytes" for kind in ("QuantizeLinear", "DequantizeLinear")
    )


def test_integers_that_depend_on_the_input_are_no_constants():
    w = Writer((1, 8, 8, 3), TensorProto.UINT8)
    pixels = w("Cast", w("Transpose", "x", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    best = w("ArgMax", w.conv(pixels, 3, 16), axis=1)
    found = w.kernels(w("Cast", best, to=TensorProto.FLOAT), fusion=USUAL)
    assert kinds(found) == ["transpose", "slice", "conv", "slice", "slice"]
    assert (found.ops[1].out_channels, found.ops[3].out_channels) == (3, 16)
    assert found.warnings == tuple(f"{k} is estimated from its bytes" for k in ("Cast", "ArgMax"))


def test_a_cast_to_the_same_type_is_free():
    w = Writer()
    y = w("Relu", w("Cast", w.conv("x"), to=TensorProto.FLOAT))
    assert keys(w.kernels(y, fusion=USUAL)) == ["conv-14x14x16-16-k3-s1-relu"]


def test_shapes_that_values_decide_are_refused():
    w = Writer()
    with pytest.raises(SpecError, match="depends on the input's values"):
        w.kernels(w.conv("x"), w("NonZero", "x"))


def _dequantised_convolution(w):
    weight = w("DequantizeLinear", w.constant(np.zeros((16, 16, 3, 3)), dtype=np.uint8), *w.scale())
    return w("Conv", w.quantised("x"), weight)


def _integer_convolution(w):
    return w("ConvInteger", "x", w.constant(np.zeros((16, 16, 3, 3)), dtype=np.uint8))


def _quantised_convolution(w):
    weight = w.constant(np.zeros((16, 16, 3, 3)), dtype=np.uint8)
    return w("QLinearConv", "x", *w.scale(), weight, *w.scale(), *w.scale())


@pytest.mark.parametrize(
    "convolution", [_dequantised_convolution, _integer_convolution, _quantised_convolution]
)
def test_a_quantised_network_is_refused_in_words(convolution):
    w = Writer()
    with pytest.raises(SpecError, match=r"Conv.* computes in 8-bit integers.*before it was quanti"):
        w.kernels(convolution(w))


def test_weights_that_alone_are_quantised_are_weights():
    w = Writer()
    packed = w.constant(np.zeros((32, 16, 3, 3)), dtype=np.uint8)
    y = w("Conv", "x", w("DequantizeLinear", packed, *w.scale()))
    assert keys(w.kernels(y, fusion=USUAL)) == ["conv-12x12x16-32-k3-s1"]


@pytest.mark.parametrize("kind", ["float16", "float32", "uint8"])
def test_the_precision_is_that_of_most_weights(kind):
    w = Writer()
    w.constant(np.zeros((16, 16, 3, 3)), dtype=kind)
    w.constant(np.zeros(4))
    content = w.model(w("Relu", "x")).SerializeToString()
    assert parse_graph(content, "x").precision == kind


def test_shapes_that_the_graph_computes_are_followed():
    w = Writer((1, 16, 8, 8))
    shape = w("Shape", "x")
    half = w("Div", w("Gather", shape, w.constant(1), axis=0), w.constant(2))
    starts = w("Unsqueeze", half, w.constant([0]))
    y = w("Slice", "x", starts, w("Gather", shape, w.constant([1]), axis=0), w.constant([1]))
    found = w.kernels(w.conv(y, 8, 16))
    assert kinds(found) == ["slice", "conv"]
    assert found.ops[-2].in_channels == 8


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Range", (0, 1 << 33, 1)),
        ("ConstantOfShape", ([1 << 33],)),
        ("Expand", ([1], [1 << 17, 1 << 17])),
    ],
)
def test_numbers_that_would_fill_the_memory_are_not_computed(kind, sizes, monkeypatch):
    w = Writer((1, 16, 8, 8))
    many = w(kind, *(w.constant(size) for size in sizes))
    y = w("Reshape", w.conv("x"), w("Slice", many, *(w.constant([i]) for i in (0, 4, 0))))
    computed = []
    monkeypatch.setattr(
        "onnx.reference.ReferenceEvaluator", lambda model: computed.append(model) or None
    )
    with suppress(SpecError):
        w.kernels(y)
    assert kind not in {node.op_type for model in computed for node in model.graph.node}


def test_all_kernels_are_of_the_batch_of_the_image():
    w = Writer((4, 16, 14, 14))
    mean = w("ReduceMean", w.conv(w("Softmax", w.conv("x"))), axes=[2, 3], keepdims=1)
    found = w.kernels(mean, w.conv("x"))
    assert {"conv", "pool", "reorder", "softmax"} <= {op.kind for op in found.ops}
    assert {op.batch for op in found.ops} == {4}
    assert next(op for op in found.ops if op.kind == "pool").out_channels == 16


def open_model(*sizes):
    w = Writer(sizes)
    return w.model(w("Relu", w.conv("x", sizes[1]))).SerializeToString()


def test_open_sizes_are_closed_by_the_batch_or_the_input_shape():
    graph = parse_graph(open_model("n", 16, 14, 14), "x", batch=4)
    assert kernels_of(graph).ops[0].batch == 4
    graph = parse_graph(open_model(1, 16, "h", "w"), "x", input_shape=(1, 16, 20, 30))
    assert (kernels_of(graph).ops[0].height, kernels_of(graph).ops[0].width) == (20, 30)
    with pytest.raises(SpecError, match=r"is 1x16x\?x\?; give its sizes: `input_shape`"):
        parse_graph(open_model(1, 16, "h", "w"), "x")
    with pytest.raises(SpecError, match="is 1x16x14x14, not 1x8x14x14"):
        parse_graph(open_model(1, 16, 14, 14), "x", input_shape=(1, 8, 14, 14))
    with pytest.raises(SpecError, match="is too large"):
        parse_graph(open_model("n", 16, 14, 14), "x", input_shape=(10**20, 16, 14, 14))


def test_an_input_whose_sizes_cannot_be_given_is_not_told_to_have_them_given():
    x, y, z = (
        onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
        for name, sizes in (("x", [1, 16, 14, 14]), ("y", [1, 16, "h", "w"]), ("z", None))
    )
    add = onnx.helper.make_node("Add", ["x", "y"], ["z"])
    model = onnx.helper.make_model(onnx.helper.make_graph([add], "x", [x, y], [z]))
    for input_shape in (None, (1, 16, 14, 14)):
        with pytest.raises(SpecError, match=r"input 'y' is 1x16x\?x\?; only the first") as caught:
            parse_graph(model.SerializeToString(), "x", input_shape=input_shape)
        assert "input_shape" not in str(caught.value)
        assert "into the file" in str(caught.value)


def broken(change):
    w = Writer()
    model = w.model(w("Relu", w.conv(w.conv("x"))))
    change(model.graph)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an ONNX file"),
        (b"PK\x03\x04", "not an ONNX file"),
        (open_model(1, 16, 14, 14)[:-40], "ONNX|shape|damaged"),
        (broken(lambda g: g.node[0].input.__setitem__(0, g.node[2].output[0])), "cycle"),
        (broken(lambda g: g.node[1].output.__setitem__(0, g.node[0].output[0])), "twice"),
        (broken(lambda g: g.node[0].__setattr__("op_type", "If")), "control flow"),
        (broken(lambda g: g.initializer[0].dims.__setitem__(1, 7)), "contradict"),
        (broken(lambda g: g.initializer[0].dims.__setitem__(0, 1 << 40)), "contradict|too large"),
        (broken(lambda g: g.ClearField("input")), "no input|reads 'x'"),
        (broken(lambda g: g.node[0].__setattr__("domain", "mine")), "domain mine"),
    ],
)
def test_a_broken_file_is_refused_in_words(content, said):
    with pytest.raises(SpecError, match=said):
        kernels_of(parse_graph(content, "model.onnx"))


def test_weights_that_are_elsewhere_are_not_needed(tmp_path):
    w = Writer()
    model = w.model(w.conv("x", 16, 64))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="weights.bin")
    (tmp_path / "weights.bin").unlink()
    assert kernels_of(read_graph(path)).ops[0].out_channels == 64


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"absent\.onnx: No such file"):
        read_graph(tmp_path / "absent.onnx")


@pytest.mark.parametrize("name", ["Relu", "Relu_1", "Conv", "Conv_0", "small", "w0", "strides"])
def test_a_name_that_is_no_text_is_refused_in_one_line(name):
    w = Writer()
    content = w.model(w("Relu", w.conv("x"))).SerializeToString()
    damaged = content.replace(name.encode(), name[:-1].encode() + b"\xff")
    assert damaged != content
    with pytest.raises(SpecError, match=r"^n\.onnx: damaged: a name in it is not text in UTF-8$"):
        parse_graph(damaged, "n.onnx")


def _reshaped(w, x, zero, rest):
    """Reshaped by a shape that is computed from its own."""
    first = w("Gather", w("Shape", x), zero, axis=0)
    return w("Relu", w("Reshape", x, w("Concat", first, rest, axis=0)))


def _long(kind, count):
    """A network of as many repetitions of something that was once looked for all over again."""
    w = Writer()
    weight, none = w.constant(np.zeros((16, 16, 1, 1))), w.constant([0] * 8)
    zero, rest = w.constant([0]), w.constant([-1])
    y = "x"
    for _ in range(count):
        if kind == "reshapes":
            y = _reshaped(w, y, zero, rest)
        elif kind == "paddings":
            y = w("Conv", w("Pad", y, none), weight)
        elif kind == "residuals":
            y = w("Add", y, w("Conv", y, weight))
        else:
            y = w("Add", y, w("Softmax", y))
    return w.model(y).SerializeToString()


@pytest.mark.parametrize("kind", ["reshapes", "paddings", "residuals", "sums"])
def test_a_network_twice_as_long_takes_twice_the_steps(kind):
    def steps(count):
        content, done = _long(kind, count), 0

        def counted(frame, event, argument):
            nonlocal done
            done += event == "line"
            return counted

        before = sys.gettrace()
        sys.settrace(counted)
        try:
            graph = kernels_of(parse_graph(content, "x"), FUSING)
        finally:
            sys.settrace(before)
        assert len(graph.ops) >= count
        return done

    few = 40 if kind == "reshapes" else 300
    steps(1)  # what is loaded once is
    assert steps(2 * few) < 2.2 * steps(few)


def test_rules_round_trip_and_broken_ones_are_refused():
    assert Fusion.parse(str(FUSING)) == FUSING
    assert Fusion.parse(str(USUAL)) == USUAL
    for text in (
        *("pairs", "block=x", "colour=red", "block=0", "block=\uff18", "block=08", "block=8 "),
        *("pairs= block=1", "pairs=b,a block=1", "pairs=a,a block=1", "pairs=a", "block=1 pairs=a"),
    ):
        with pytest.raises(SpecError, match="is not a list of fusion rules"):
            Fusion.parse(text)


@pytest.mark.parametrize("seed", range(150))
def test_damaged_files_end_in_words_or_in_kernels(seed):
    """Bytes changed, cut out and put in at random: an answer, or an error of ours, no other."""
    generator = random.Random(seed)
    w = Writer()
    y = w("Relu", w("Add", w.conv("x"), w.conv("x")))
    y = w("Concat", y, w("MaxPool", y, kernel_shape=[3, 3], pads=[1] * 4), axis=1)
    content = bytearray(w.model(w("Flatten", w("GlobalAveragePool", y))).SerializeToString())
    for _ in range(generator.randint(1, 6)):
        place = generator.randrange(len(content))
        how = generator.randrange(4)
        if how == 0:
            content[place] = generator.randrange(256)
        elif how == 1:
            del content[place : place + generator.randint(1, 30)]
        elif how == 2:
            content[place:place] = generator.randbytes(generator.randint(1, 8))
        else:
            content[place:place] = content[place : place + generator.randint(1, 200)]
    with suppress(LatError):
        kernels_of(parse_graph(bytes(content), "damaged.onnx"), FUSING)
