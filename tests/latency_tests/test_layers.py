"""The layers of an operator, one by one."""

from dataclasses import replace

import pytest

from latency import OpSpec, SpecError, zoo
from latency.operators.trees import Tree


@pytest.mark.parametrize(
    ("expansion", "squeeze_excite", "is_valid"),
    [(1, 1, True), (1, 0, True), (1, 1.01, False), (1, -0.1, False), (0, 0, False)],
)
def test_a_squeeze_is_to_a_share_of_the_channels(expansion, squeeze_excite, is_valid):
    sizes = ("mbconv", 8, 8, 16, 16, 3, 1, expansion, "relu", squeeze_excite)
    if is_valid:
        assert OpSpec(*sizes).squeeze_excite == squeeze_excite
    else:
        with pytest.raises(SpecError, match=r"must be positive, .* within 0 and 1"):
            OpSpec(*sizes)


@pytest.mark.parametrize(
    ("kind", "stride", "kernel", "outside"),
    [("pool", 1, 8, 16), ("max_pool", 2, 3, 16), ("conv", 1, 3, 8), ("norm", 1, 1, 16)],
)
def test_the_last_layer_has_the_activation(kind, stride, kernel, outside):
    op = OpSpec(kind, 8, 8, 16, outside, kernel, stride, activation="relu6")
    assert [layer.activation for layer in op.layers if layer.activation != "none"] == ["relu6"]
    plain = replace(op, activation="none")
    assert {layer.activation for layer in plain.layers} == {"none"}


def test_path_dropout_may_leave_out_either_of_the_first_two_branches_and_each_further_one():
    tree = Tree.parse("(s3s5s7)")
    op = OpSpec("tree", 8, 8, 16, 32, 3, 1, 0.25, "relu", groups=2, tree=str(tree))
    sums = [layer for layer in op.layers if layer.name.startswith("sum")]
    assert [layer.droppable for layer in sums] == [2, 1]


@pytest.mark.parametrize(
    ("op", "numbers"),
    [
        (OpSpec("concat", 8, 8, 4, 16), 2 * 8 * 8 * 16),
        (OpSpec("slice", 8, 8, 16, 4), 2 * 8 * 8 * 4),
        (OpSpec("add", 8, 8, 16, 16), 3 * 8 * 8 * 16),
        (OpSpec("conv", 8, 8, 3, 16, 3, 2), 8 * 8 * 3 + 4 * 4 * 16),
    ],
)
def test_a_layer_reads_its_inputs_and_writes_its_output_once(op, numbers):
    assert sum(layer.activations for layer in op.layers) == numbers


@pytest.mark.parametrize(
    ("stride", "outside", "names"),
    [
        (1, 16, set()),
        (1, 32, {"padded"}),
        (2, 16, {"shortcut"}),
        (2, 32, {"shortcut", "padded"}),
    ],
)
def test_the_residual_of_a_tree_is_pooled_and_padded_where_shapes_differ(stride, outside, names):
    op = OpSpec("tree", 8, 8, 16, outside, 3, stride, 0.25, "relu", groups=2, tree="(s3i)")
    layers = {layer.name: layer for layer in op.layers}
    assert layers.keys() & {"shortcut", "padded"} == names
    assert layers["add"].out_shape == (8 // stride, 8 // stride, outside)


def test_a_published_network_of_trees_is_of_the_batch():
    network = zoo.load("proxyless_cifar", batch=4)
    assert {op.batch for op in network.ops} == {4}
    assert {op.batch for op in zoo.load("proxyless_cifar").ops} == {1}


def test_a_convolution_is_one_layer_and_one_that_adds_is_two():
    sizes = (8, 8, 16, 32, 3, 2)
    op = OpSpec("conv", *sizes, activation="relu", groups=4, dilation=2)
    (conv,) = op.layers
    assert (conv.kind, conv.kernel, conv.stride) == ("conv", (3, 3), 2)
    assert (conv.groups, conv.dilation, conv.activation) == (4, 2, "relu")
    conv, add = replace(op, kind="conv_add").layers
    assert (conv.groups, conv.dilation, conv.stride, conv.activation) == (4, 2, 2, "none")
    assert (add.kind, add.inputs, add.activation) == ("add", ("conv", "other"), "relu")


@pytest.mark.parametrize(
    ("op", "stands_alone"),
    [
        (OpSpec("add", 8, 8, 4, 4), True),
        (OpSpec("transpose", 8, 8, 4, 4), True),
        (OpSpec("conv", 8, 8, 4, 4), False),
    ],
)
def test_an_operator_with_a_second_input_or_other_axes_stands_alone(op, stands_alone):
    assert op.traits.stands_alone == stands_alone
