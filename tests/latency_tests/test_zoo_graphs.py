"""Networks as words, and the operators that they stand for."""

import pytest

from latency import zoo
from latency.graphs.fusion import USUAL, Fusion
from latency.operators.features import LAUNCH, feature_vector, kernel_family, physical_terms
from latency.operators.network import peak_bytes
from latency.operators.spec import OpSpec
from latency.zoo.convolutional import operators
from latency.zoo.pyramid_nets import head, hidden_widths, tree_blocks

TREE = "(i(s3m3)i(s5i))"


def keys(text, fusion=USUAL, resolution=32, batch=1):
    return [op.key for op in operators(text, resolution, batch, "relu", fusion)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16x3:2", ["conv-32x32x3-16-k3-s2-relu"]),
        ("16 8x5-", ["conv-32x32x3-16-k1-s1-relu", "conv-32x32x16-8-k5-s1"]),
        ("3/6/8:2*2", ["mbconv-32x32x3-8-k3-s2-e6-relu", "mbconv-16x16x8-8-k3-s1-e6-relu"]),
        ("dw3:2", ["conv-32x32x3-3-k3-s2-relu-g3"]),
        ("m3:2 g", ["max_pool-32x32x3-3-k3-s2", "pool-16x16x3-3-k16-s1"]),
        ("m2:2 f10+ f5", ["max_pool-32x32x3-3-k2-s2", "linear-1x1x768-10-k1-s1-relu",
                          "linear-1x1x10-5-k1-s1"]),
    ],
)  # fmt: skip
def test_each_word_is_an_operator(text, expected):
    assert keys(text) == expected


def test_a_residual_is_projected_where_shapes_differ_and_taken_in_where_the_runtime_fuses_it():
    text = "8 [ 16x3:2 16x3- ]"
    convs = ["conv-32x32x3-8-k1-s1-relu", "conv-32x32x8-16-k3-s2-relu"]
    last, project = "16x16x16-16-k3-s1", "conv-32x32x8-16-k1-s2"
    assert keys(text) == [*convs, f"conv-{last}", project, "add-16x16x16-16-k1-s1-relu"]
    fusing = Fusion(frozenset(["conv+add"]))
    assert keys(text, fusing) == [*convs, project, f"conv_add-{last}"]
    fusing = Fusion(frozenset(["conv+add", "conv_add+relu"]))
    assert keys(text, fusing) == [*convs, project, f"conv_add-{last}-relu"]


def test_operators_are_of_the_batch():
    assert keys("4x3 g f10", batch=2) == [
        "conv-32x32x3-4-k3-s1-relu-b2",
        "pool-32x32x4-4-k32-s1-b2",
        "linear-1x1x4-10-k1-s1-b2",
    ]


@pytest.mark.parametrize(
    ("name", "gmacs", "kernels"),
    [
        ("resnet18", 1.814, 31),
        ("resnet50", 4.089, 72),
        ("vgg11_bn", 7.609, 16),
        ("vgg16_bn", 15.470, 21),
        ("mobilenet_v1", 0.569, 29),
    ],
)
def test_published_networks_have_their_published_size(name, gmacs, kernels):
    found = zoo.load(name)
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=6e-4)
    assert len(found.ops) == kernels
    assert {op.batch for op in found.ops} == {1}


def test_blocks_of_a_pyramid_widen_step_by_step_and_halve_at_each_stage():
    assert hidden_widths(2, 40) == (20, 24, 28, 32, 36, 40)
    blocks = tree_blocks((32, 32, 16), 40, [TREE] * 6, batch=2)
    assert [block.out_shape for block in blocks] == [
        (32, 32, 80),
        (32, 32, 96),
        (16, 16, 112),
        (16, 16, 128),
        (8, 8, 144),
        (8, 8, 160),
    ]
    assert {(op.batch, op.groups) for op in blocks} == {(2, 2)}
    assert [op.key for op in head((8, 8, 160), 10, batch=2)] == [
        "norm-8x8x160-160-k1-s1-relu-b2",
        "pool-8x8x160-160-k8-s1-b2",
        "linear-1x1x160-10-k1-s1-b2",
    ]


def test_operators_take_the_memory_of_what_lives_at_once():
    conv = OpSpec("conv", 8, 8, 3, 16, 3)
    assert peak_bytes(conv) == 4 * 8 * 8 * (3 + 16)
    assert peak_bytes(OpSpec("conv", 8, 8, 3, 16, 3, batch=4)) == 4 * peak_bytes(conv)
    # While the depthwise output is projected, the input waits for the sum.
    residual = OpSpec("mbconv", 8, 8, 4, 4, 3, 1, 6, "relu6")
    assert peak_bytes(residual) == 4 * 8 * 8 * (4 + 24 + 24)


def test_an_activation_that_is_computed_by_itself_reads_the_output_again():
    terms = physical_terms(OpSpec("conv", 8, 8, 16, 32, 1, batch=2, activation="h_swish"))
    assert terms == pytest.approx(
        {
            LAUNCH: 0.001,
            ("pointwise", "macs"): 2 * 8 * 8 * 16 * 32 / 1e6,
            ("pointwise", "bytes"): 2 * 8 * 8 * (16 + 32) * 4e-6,
            ("pointwise", "weights"): OpSpec("conv", 8, 8, 16, 32, 1).params * 4e-6,
            ("hard", "bytes"): 2 * 8 * 8 * 32 * 4e-6,
        }
    )
    assert ("none", "bytes") not in physical_terms(OpSpec("conv", 8, 8, 16, 32, 1))


@pytest.mark.parametrize(
    ("op", "octaves"),
    [
        (OpSpec("conv", 8, 8, 24, 32, 3), (1, 0)),
        (OpSpec("conv", 8, 8, 24, 20, 3, groups=2), (2, 3)),
        (OpSpec("conv", 8, 8, 24, 24, 3, groups=24), (1, 1)),
        (OpSpec("mbconv", 8, 8, 24, 20, 3), (0, 0)),
        (OpSpec("tree", 8, 8, 24, 24, 3, 1, 0.25, "relu", groups=2, tree=TREE), (0, 0)),
    ],
)
def test_channels_of_a_kernel_miss_whole_vectors_by_so_many_octaves(op, octaves):
    assert tuple(feature_vector(op)[-2:]) == octaves


def test_convolutions_and_other_kernels_are_told_apart_where_an_activation_costs():
    conv = OpSpec("conv_add", 8, 8, 16, 32, 1, activation="silu")
    assert physical_terms(conv)["smooth", "bytes"] == pytest.approx(8 * 8 * 32 * 4e-6)
    activation = OpSpec("activation", 8, 8, 16, 16, activation="silu")
    assert ("smooth", "bytes") not in physical_terms(activation)


@pytest.mark.parametrize("kind", ["conv", "conv_add"])
@pytest.mark.parametrize(
    ("sizes", "groups", "name"),
    [
        ((8, 8, 16, 16, 1), 1, "pointwise"),
        ((1, 1, 16, 16, 1), 1, "vector"),
        ((8, 8, 16, 16, 3), 1, "dense"),
        ((8, 8, 16, 16, 3), 4, "grouped"),
        ((8, 8, 16, 16, 3), 16, "depthwise"),
    ],
)
def test_convolutions_are_of_a_family_by_what_executes_them(kind, sizes, groups, name):
    assert kernel_family(OpSpec(kind, *sizes, groups=groups)) == name
