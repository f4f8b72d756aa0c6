"""Tree-structured cells: how they are written, what they consist of, what they cost."""

import pytest
import torch
from torch.nn import functional

from latency import LatencyTable, Measurement, NetworkSpec, OpSpec, Setting, SpecError
from latency.modules import OperatorModule
from latency.operators.trees import Tree, edge_code, edge_operator, with_edges

BLOCK = OpSpec("tree", 8, 8, 6, 16, 3, 1, 0.25, "relu", groups=2, tree="(i(s3m3)i(s5i))")


@pytest.mark.parametrize(
    "text", ["(i)", "(ii)", "(i(s3m3)i(s5d7))", "(s3(a3(ii)i)d3)", "(i(i(i)))"]
)
def test_a_tree_reads_back_as_it_is_written(text):
    assert str(Tree.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "i", "()", "(i", "(i))", "(i)(i)", "(i())", "((i))", "(i(i)(i))", "(s4)", "(i,i)", "(x3)"],
)
def test_what_is_no_tree_is_refused(text):
    with pytest.raises(SpecError, match="is not a tree such as"):
        Tree.parse(text)


WIDE = "(" + "".join(f"i({'s3' * 10})" for _ in range(10)) + ")"


@pytest.mark.parametrize(
    "text", [f"({'i' * 11})", f"({'s3' * 8000})", f"(ii{WIDE}i{WIDE}i{WIDE})", WIDE * 2]
)
def test_a_tree_with_more_branches_or_edges_than_are_read_is_refused_at_once(text):
    with pytest.raises(SpecError, match=r"10 branches of a node and 256 edges"):
        Tree.parse(text)


def test_every_edge_of_a_wide_tree_has_a_name_of_its_own():
    assert len(Tree.parse(WIDE).edges()) == 110


def test_edges_are_named_by_the_branches_that_lead_to_them():
    edges = Tree.parse("(i(s3m3)i(s5d7))").edges()
    assert edges == {"0": "i", "00": "s3", "01": "m3", "1": "i", "10": "s5", "11": "d7"}


def test_an_edge_is_exchanged_by_its_name():
    grown = with_edges(BLOCK, {"01": edge_operator(BLOCK, "d3"), "10": None})
    assert grown.tree == "(i(s3d3)i(ii))"
    assert grown.key == "tree-8x8x6-16-k3-s1-e0.25-relu-g2-(i(s3d3)i(ii))"


@pytest.mark.parametrize("code", ["i", "s3", "s7", "d3", "a3", "m5"])
def test_the_operator_of_an_edge_tells_its_code(code):
    edge = edge_operator(BLOCK, code)
    assert edge_code(edge) == code
    assert edge is None or (edge.in_channels, edge.out_channels, edge.stride) == (4, 4, 1)


def test_an_operator_that_no_edge_can_be_is_refused():
    with pytest.raises(SpecError, match="not an operator of a tree's edge"):
        edge_code(OpSpec("conv", 8, 8, 4, 4, 3))


def test_the_parts_of_a_tree_are_it_without_edges_and_its_edges():
    bare, *edges = BLOCK.parts
    assert bare.tree == "(i(ii)i(ii))"
    assert [op.key for op in edges] == [
        "sepconv-8x8x4-4-k3-s1-relu",
        "max_pool-8x8x4-4-k3-s1",
        "sepconv-8x8x4-4-k5-s1-relu",
    ]
    assert BLOCK.macs == sum(part.macs for part in BLOCK.parts)
    assert BLOCK.params == sum(part.params for part in BLOCK.parts)


def test_a_table_of_the_parts_predicts_a_network_of_trees():
    setting = Setting("x", "some board", runtime="y 1")
    rows = {op: Measurement(1.0 + i, 0.01, 10, 1.0) for i, op in enumerate(BLOCK.parts)}
    table = LatencyTable(setting, rows)
    prediction = table.predict(NetworkSpec.of("one block", (BLOCK,)))
    assert prediction.ms == pytest.approx(1 + 2 + 3 + 4)
    assert [part.op for part in prediction.per_op] == list(BLOCK.parts)


def test_a_block_computes_what_the_published_one_does():
    """Written out by hand for one tree, in the order of the published configuration: norm,
    activation, weight."""
    torch.manual_seed(0)
    module = OperatorModule(BLOCK)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    x = torch.randn(3, 6, 8, 8)

    def norm(name, y):
        one = module.layers[name]
        batch_norm = one.norm if isinstance(one.norm, torch.nn.BatchNorm2d) else one.core
        return functional.batch_norm(
            y, None, None, batch_norm.weight, batch_norm.bias, training=True
        )

    def conv(name, y, groups=1):
        weight = module.layers[name].core.weight
        return functional.conv2d(y, weight, padding=weight.shape[-1] // 2, groups=groups)

    def separable(name, y):
        y = conv(f"{name}_depthwise", norm(f"{name}_norm", y).relu(), 4)
        return conv(f"{name}_pointwise", y)

    y = norm("in", conv("in", norm("in_norm", x))).relu()
    y = conv("root", y, 2)
    y = y.view(3, 2, 4, 8, 8).transpose(1, 2).reshape(3, 8, 8, 8)
    left, right = y[:, :4], y[:, 4:]
    inner = separable("00", left) + functional.max_pool2d(left, 3, 1, 1)
    left = norm("0_branch_norm", inner) + left
    right = norm("1_branch_norm", separable("10", right) + right) + right
    y = norm("out", conv("out", norm("out_norm", left + right).relu()))
    expected = y + torch.cat([x, torch.zeros(3, 10, 8, 8)], 1)
    torch.testing.assert_close(module(x), expected)


def test_the_shortcut_of_a_strided_block_is_averaged():
    op = OpSpec("tree", 8, 8, 6, 6, 3, 2, 0.5, "relu", tree="(ii)")
    module = OperatorModule(op)
    torch.nn.init.zeros_(module.layers["out"].norm.weight)  # no residual
    x = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(module(x), functional.avg_pool2d(x, 2))
