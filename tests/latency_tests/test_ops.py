"""Operators: keys, counts against torch, and what is refused."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from latency import NetworkSpec, OpSpec, SpecError
from latency.modules import NetworkModule, OperatorModule
from latency.operators.kinds import KINDS, other_shape

OPERATORS = [
    OpSpec("conv", 32, 32, 3, 16, 3, 2, activation="relu6"),
    OpSpec("conv", 7, 7, 20, 64, 1, activation="h_swish"),
    OpSpec("conv", 9, 11, 4, 6, 5, 2, activation="silu"),
    OpSpec("mbconv", 14, 14, 24, 24, 5, 1, 6, "relu6"),
    OpSpec("mbconv", 15, 15, 24, 40, 7, 2, 3, "relu"),
    OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 1, "relu6"),
    OpSpec("mbconv", 8, 8, 16, 24, 3, 1, 2.5, "h_swish", 0.25),
    OpSpec("pool", 7, 7, 12, 12, 7),
    OpSpec("pool", 9, 9, 12, 12, 3, 2),
    OpSpec("linear", 1, 1, 32, 10),
    OpSpec("conv", 8, 8, 3, 8, 3, batch=4),
    OpSpec("conv", 9, 8, 6, 12, 3, 2, groups=3, dilation=2, activation="relu"),
    OpSpec("conv", 8, 9, 4, 6, 2),
    OpSpec("conv", 11, 9, 4, 6, 4, 3),
    OpSpec("conv_add", 8, 8, 6, 6, 3, groups=6, activation="relu"),
    OpSpec("conv_transpose", 5, 6, 4, 3, 2, 2, batch=2),
    OpSpec("conv_transpose", 5, 6, 4, 3, 5, 2),
    OpSpec("matmul", 5, 6, 8, 12, activation="gelu"),
    OpSpec("max_pool", 9, 10, 4, 4, 3, 2),
    OpSpec("max_pool", 9, 10, 4, 4, 2, 2),
    OpSpec("activation", 6, 7, 5, 5, activation="h_swish"),
    OpSpec("add", 6, 7, 5, 5, activation="relu"),
    OpSpec("multiply", 6, 7, 5, 5),
    OpSpec("scale", 6, 7, 5, 5),
    OpSpec("norm", 6, 7, 5, 5, activation="relu"),
    OpSpec("layer_norm", 6, 7, 8, 8, batch=2),
    OpSpec("concat", 6, 7, 5, 8),
    OpSpec("slice", 6, 7, 8, 5),
    OpSpec("transpose", 6, 7, 5, 5),
    OpSpec("resize", 6, 7, 5, 5, 1, 2),
    OpSpec("softmax", 1, 1, 50, 50),
    OpSpec("avg_pool", 9, 10, 4, 4, 3),
    OpSpec("sepconv", 9, 10, 6, 6, 5, activation="relu", dilation=2),
    OpSpec("sepconv", 9, 10, 6, 8, 3, 2, activation="relu"),
    OpSpec("tree", 8, 10, 6, 16, 3, 1, 0.25, "relu", groups=2, tree="(i(s3m3)i(s5d7))"),
    OpSpec("tree", 8, 10, 16, 16, 3, 2, 0.5, "relu", batch=2, tree="(s3(a3(ii)i)d3)"),
]
RUNTIME_ONLY = OpSpec("reorder", 6, 7, 8, 8)


def test_every_kind_is_among_them():
    assert {op.kind for op in (*OPERATORS, RUNTIME_ONLY)} == set(KINDS)


@pytest.mark.parametrize("op", [*OPERATORS, RUNTIME_ONLY], ids=str)
def test_a_key_reads_back_to_the_same_operator(op):
    assert OpSpec.parse(op.key) == op


def test_keys_of_different_operators_differ():
    assert len({op.key for op in OPERATORS}) == len(OPERATORS)


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_counts_are_those_of_the_torch_module(op):
    module = OperatorModule(op)
    assert op.params == sum(value.numel() for value in module.parameters())
    shapes = [(op.height, op.width, op.in_channels), other_shape(op)]
    with FlopCounterMode(display=False) as counter:
        output = module(*(torch.randn(op.batch, s[2], *s[:2]) for s in shapes if s))
    assert 2 * op.macs == counter.get_total_flops()
    height, width, channels = op.out_shape
    expected = (op.batch, channels, height, width)
    if op.kind == "transpose":
        expected = (op.batch, height, width, channels)
    assert output.shape == (expected[:2] if op.kind == "linear" else expected)


def test_what_only_runtimes_have_is_no_module():
    with pytest.raises(SpecError, match="'reorder' exists in runtimes only"):
        OperatorModule(RUNTIME_ONLY)


def test_a_second_input_that_is_not_given_is_named():
    op = OpSpec("add", 6, 7, 5, 5)
    with pytest.raises(SpecError, match="needs a second input, `other`"):
        OperatorModule(op)(torch.zeros(1, 5, 6, 7))


@pytest.mark.parametrize("kind", ["activation", "slice"])
def test_an_activation_leaves_the_input_as_it_is(kind):
    x = torch.full((1, 4, 2, 2), -1.0)
    OperatorModule(OpSpec(kind, 2, 2, 4, 4, activation="relu"))(x)
    assert (x == -1).all()


def test_mobilenet_v2_block_has_the_macs_of_the_paper():
    # 56x56x24 -> 24, expansion 6: 1x1 to 144, 3x3 depthwise, 1x1 to 24.
    op = OpSpec("mbconv", 56, 56, 24, 24, 3, 1, 6, "relu6")
    assert op.macs == 56 * 56 * (24 * 144 + 144 * 9 + 144 * 24)
    assert op.params == 24 * 144 + 2 * 144 + 144 * 9 + 2 * 144 + 144 * 24 + 2 * 24


def test_a_residual_is_added_only_where_shapes_allow():
    names = [layer.name for layer in OpSpec("mbconv", 8, 8, 16, 16, 3, 1, 3).layers]
    assert names == ["expand", "depthwise", "project", "add"]
    for other in (
        OpSpec("mbconv", 8, 8, 16, 16, 3, 2, 3),
        OpSpec("mbconv", 8, 8, 16, 24, 3, 1, 3),
    ):
        assert "add" not in [layer.name for layer in other.layers]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("mbconf", 8, 8, 8, 8), "did you mean 'mbconv'"),
        (("conv", 0, 8, 8, 8), "height of a conv must be from 1"),
        (("mbconv", 8, 8, 8, 8, 2), "kernel of a padded convolution is odd"),
        (("conv", 8, 8, 8, 8, 3, 1, 1, "rellu"), "did you mean 'relu'"),
        (("pool", 8, 8, 8, 4, 8), "keeps its channels"),
        (("pool", 4, 4, 8, 8, 5), "larger than the input"),
        (("linear", 4, 4, 8, 8), "needs 1x1 inputs"),
        (("mbconv", 8, 8, 8, 8, 3, 1, -2), "expansion -2 must be positive"),
        (("max_pool", 1, 8, 8, 8, 2), "larger than the input"),
        (("max_pool", 8, 8, 8, 4, 2), "keeps its channels"),
        (("add", 8, 8, 8, 8, 3), "neither kernel nor stride"),
        (("resize", 8, 8, 8, 8, 2, 2), "a resize has no kernel"),
        (("conv_transpose", 8, 8, 8, 8, 2, 1), "stride 1 needs an odd kernel"),
        (("concat", 8, 8, 8, 8), "a concatenation adds channels"),
        (("slice", 8, 8, 8, 9), "a slice adds no channels"),
        (("activation", 8, 8, 8, 8), "names its function"),
        (("avg_pool", 8, 8, 8, 8, 3, 2), "an odd kernel and stride 1"),
        (("sepconv", 8, 8, 8, 8, 4), "kernel of a padded convolution is odd"),
        (("conv", 10**400, 8, 8, 8), "height of a conv must be from 1 to 17179869184"),
        (("mbconv", 8, 8, 8, 8, 3, 1, float("inf")), "expansion inf must be positive, 17179869184"),
    ],
)
def test_an_operator_that_cannot_be_is_refused_in_words(fields, said):
    with pytest.raises(SpecError, match=said):
        OpSpec(*fields)


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("conv", {"groups": 3}, "the groups do not divide the channels"),
        ("conv", {"dilation": 0}, "dilation of a conv must be from 1"),
        ("mbconv", {"groups": 2}, "only a convolution has groups and dilation"),
        ("max_pool", {"dilation": 2}, "only a convolution has groups and dilation"),
        ("sepconv", {"groups": 2}, "only a convolution has groups and dilation"),
        ("conv", {"tree": "(ii)"}, "a conv has no tree"),
        ("tree", {}, "'' is not a tree"),
        ("tree", {"tree": "(i" * 500 + "(ii)" + ")" * 500}, "at most 32 levels"),
        ("tree", {"tree": "(ii)", "kernel": 2}, "kernel of a padded convolution is odd"),
        (
            "tree",
            {"tree": "(ii)", "groups": 2, "expansion": 0.4},
            "do not divide the hidden channels",
        ),
        ("tree", {"tree": "(ii)", "stride": 3}, "stride of a tree divides"),
    ],
)
def test_groups_and_dilation_that_cannot_be_are_refused_in_words(kind, fields, said):
    with pytest.raises(SpecError, match=said):
        OpSpec(kind, 8, 8, 8, 8, **fields)


@pytest.mark.parametrize(
    "key",
    [
        *("", "conv", "conv-8x8-4", "conv-8x8x4-x", "conv-8x8x4-8-k1.5"),
        *(f"conv-{'1' * 5000}x8x4-8", f"conv-8x8x4-{'1' * 5000}", f"conv-8x8x4-8-k{'1' * 5000}"),
    ],
    ids=lambda key: key[:20],
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(SpecError, match="not an operator key"):
        OpSpec.parse(key)


MBCONV, CONV, TREE = "mbconv-8x8x4-4-k3-s1", "conv-8x8x4-4-k3-s1", "tree-8x8x4-4-k3-s1"


@pytest.mark.parametrize(
    "key",
    [
        *(f"{MBCONV}-{tags}" for tags in ("E6-relu6", "e6.0-relu6", "e6-e6-relu6", "e3-e6-relu6")),
        *(f"{MBCONV}-{tags}" for tags in ("relu6-e6", "relu-relu6", "relu6-se0", "", "e6-none")),
        *(f"{CONV}{rest}" for rest in ("-g1", "-b1", "-", " ", "\n", "_0", "-x2", "-g2-b2-d2")),
        *("conv-8x8x4-4-k03-s1", "conv-08x8x4-4-k3-s1", "conv-8x8x4-04-k3-s1", "conv-8x8x4-4-k3"),
        *("conv-8x8x4-4-s1-k3", f" {CONV}", "conv-8x8x4-4--k3-s1"),
        *(CONV.replace("8x8", "8x\uff18"), CONV.replace("4-4", "4-\uff14"), f"{CONV}-g\uff12"),
        *(f"{TREE}-{trees}" for trees in ("(ii)-(ii)", "(ii)-relu", "(i i)")),
    ],
)
def test_a_key_that_is_not_as_keys_are_written_is_refused(key):
    with pytest.raises(SpecError, match=r"not an operator key|unknown |is not a tree"):
        OpSpec.parse(key)


def test_a_network_round_trips_through_json(toy_space):
    network = toy_space.network(toy_space.largest)
    assert NetworkSpec.from_json(network.to_json()) == network
    assert network.params == sum(p.numel() for p in NetworkModule(network.ops).parameters())


def test_a_network_whose_operators_do_not_fit_is_refused():
    ops = (OpSpec("conv", 8, 8, 3, 8, 3), OpSpec("conv", 8, 8, 4, 8, 3))
    with pytest.raises(SpecError, match=r"operator 1 .* does not take 8x8x8"):
        NetworkSpec("broken", (8, 8, 3), ops)


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "network.json"
    path.write_text('{"name": "x", "ops": []}')
    with pytest.raises(SpecError, match=r"network\.json: not a network"):
        NetworkSpec.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"name": "x", "input_shape": [1, 1, 1], "ops": [' + b"9" * 5000 + b"]}", "ValueError"),
        (
            b'{"name": "x", "input_shape": [8, 8, 3], "ops": ["conv-%sx8x3-8-k3-s1"]}'
            % (b"9" * 400),
            "height of a conv must be from 1",
        ),
    ],
    ids=["no text", "deep", "digits", "size"],
)
def test_a_hostile_file_is_refused_in_words(tmp_path, content, said):
    path = tmp_path / "network.json"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=rf"network\.json:.* .*{said}"):
        NetworkSpec.load(path)
