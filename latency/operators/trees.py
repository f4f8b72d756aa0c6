"""Tree-structured cells (Cai et al., Path-Level Network Transformation, ICML 2018), and the
residual block around one: the operator `tree`.

A node passes its input to its branches and adds their outputs; a branch is an edge, possibly
followed by another node. A node is written as its branches in parentheses, an edge as its code:

    (i(s3m3)i(s5d7))        input ──┬─ i ──┬─ s3 ──┐
                                    │      └─ m3 ──┴──┐
                                    └─ i ──┬─ s5 ──┐  │
                                           └─ d7 ──┴──┴─ add
    i        identity
    s3 d3    separable 3x3 convolution, plain, and dilated by 2 (`sepconv`)
    m3 a3    3x3 max, average pooling

An edge is named by the branches that lead to it: "00", "01", "10", "11" are s3, m3, s5, d7. The
block is that of ProxylessNAS on CIFAR-10 (Cai, Zhu & Han, ICLR 2019), pre-activated: a bottleneck
1x1, a grouped kxk convolution whose channels are shuffled and split among the branches of the
first node, the tree, and a 1x1 convolution; then the shortcut, average-pooled if there is a stride
and padded with zeros if channels increase (Han et al., PyramidNet, CVPR 2017).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from latency.errors import SpecError
from latency.operators.chain import Chain
from latency.operators.fields import OpFields

Op = TypeVar("Op", bound=OpFields)
IDENTITY = "i"


_EDGES = {"s": ("sepconv", 1), "d": ("sepconv", 2), "m": ("max_pool", 1), "a": ("avg_pool", 1)}
"""First letter of an edge's code to the kind and the dilation of its operator."""
_EDGE = "i|[sdma][3579]"
_TOKEN = re.compile(rf"[()]|{_EDGE}")
_MAX_DEPTH, _MAX_BRANCHES, _MAX_EDGES = 32, 10, 256
"""Limits of a tree. The name of an edge has one digit per level: ten branches of a node."""


@dataclass(frozen=True)
class Branch:
    """An edge by its code, and the node behind it."""

    edge: str
    node: "Tree | None" = None


@dataclass(frozen=True)
class Tree:
    """A node with at least one branch."""

    branches: tuple[Branch, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tree that `text` describes; `SpecError` if it is not valid."""
        nodes: list[list[Branch]] = []
        tree = None
        edges = 0
        for token in _TOKEN.findall(text):
            if token == "(":
                nodes.append([])
            elif not nodes or len(nodes) > _MAX_DEPTH:
                break
            elif token != ")":
                nodes[-1].append(Branch(token))
                edges += 1
                if edges > _MAX_EDGES or len(nodes[-1]) > _MAX_BRANCHES:
                    break
            else:
                tree = cls(tuple(nodes.pop()))
                if nodes and nodes[-1]:
                    nodes[-1][-1] = Branch(nodes[-1][-1].edge, tree)
        if tree is None or nodes or str(tree) != text:
            raise SpecError(
                f"'{text[:100]}' is not a tree such as (i(s3m3)i(s5d7)), of edges i, s3, d3, m3, "
                f"a3, with at most {_MAX_DEPTH} levels, {_MAX_BRANCHES} branches of a node and "
                f"{_MAX_EDGES} edges"
            )
        return tree

    def __str__(self) -> str:
        inside = "".join(f"{branch.edge}{branch.node or ''}" for branch in self.branches)
        return f"({inside})" if inside else ""

    def edges(self, path: str = "") -> dict[str, str]:
        """Codes of all edges by their names, in order of execution."""
        found: dict[str, str] = {}
        for position, branch in enumerate(self.branches):
            name = f"{path}{position}"
            found[name] = branch.edge
            if branch.node is not None:
                found |= branch.node.edges(name)
        return found


def edge_operator(op: Op, code: str) -> Op | None:
    """The operator that an edge of the `tree` operator is, measured alone; None for an identity."""
    if code == IDENTITY:
        return None
    kind, dilation = _EDGES[code[0]]
    hidden = hidden_channels(op)
    return replace(
        op,
        kind=kind,
        height=op.height // op.stride,
        width=op.width // op.stride,
        in_channels=hidden,
        out_channels=hidden,
        kernel=int(code[1:]),
        stride=1,
        expansion=1,
        activation=op.activation if kind == "sepconv" else "none",
        groups=1,
        dilation=dilation,
        tree="",
    )


def edge_code(edge: OpFields | None) -> str:
    """The code of the edge that is this operator; `SpecError` where no edge can be it."""
    if edge is None:
        return IDENTITY
    for letter, traits in _EDGES.items():
        code = f"{letter}{edge.kernel}"
        if traits == (edge.kind, edge.dilation) and re.fullmatch(_EDGE, code):
            return code
    raise SpecError(f"{edge.key}: not an operator of a tree's edge")


def with_edges(op: Op, edges: Mapping[str, Op | None]) -> Op:
    """The `tree` operator with other edges, by their names."""
    given = {name: edge_code(edge) for name, edge in edges.items()}
    codes = iter((Tree.parse(op.tree).edges() | given).values())
    return replace(op, tree=re.sub(_EDGE, lambda _: next(codes), op.tree))


def tree_parts(op: Op) -> tuple[Op, ...]:
    """A `tree` operator without its edges (all are identities), then its edges."""
    codes = Tree.parse(op.tree).edges()
    edges = [edge_operator(op, code) for code in codes.values()]
    return with_edges(op, dict.fromkeys(codes)), *(edge for edge in edges if edge is not None)


def hidden_channels(op: OpFields) -> int:
    """Hidden channels of a `tree`: `expansion` times its output channels."""
    return max(1, round(op.out_channels * op.expansion))


def identity_layer(name: str) -> str:
    """Name of the layer of an edge that is the identity."""
    return f"{name}_identity"


RULES: dict[str, Callable[[OpFields], bool]] = {
    "not a tree": lambda op: bool(Tree.parse(op.tree)),
    "the groups do not divide the hidden channels": lambda op: hidden_channels(op) % op.groups == 0,
    "the stride of a tree divides its input's height and width": (
        lambda op: op.height % op.stride == op.width % op.stride == 0
    ),
    "a tree has no fewer channels than its input": lambda op: op.in_channels <= op.out_channels,
}
"""What must hold for a `tree`, by the error message."""


def append_tree(chain: Chain, op: OpFields) -> None:
    """A residual block around a tree-structured cell."""
    tree, hidden = Tree.parse(op.tree), hidden_channels(op)
    block_input = chain.tensor
    chain.append("in_norm", "norm", chain.shape)
    chain.conv("in", hidden, activation=op.activation)  # with the root's norm and activation
    wide = len(tree.branches) * hidden
    chain.conv("root", wide, op.kernel, op.stride, groups=op.groups, norm=False, bias=False)
    if op.groups > 1:
        chain.append("shuffle", "shuffle", chain.shape, groups=op.groups)
    whole = chain.tensor
    outputs = []
    for position, branch in enumerate(tree.branches):
        chain.read(whole)
        if len(tree.branches) > 1:
            share = (*chain.shape[:2], hidden)
            chain.append(f"{position}_split", "slice", share, start=position * hidden)
        _add_edge(chain, op, branch.edge, str(position))
        edge = chain.last
        if branch.node is not None:
            _add_node(chain, op, branch.node, str(position))
        chain.append(f"{position}_branch_norm", "norm", chain.shape)
        chain.append(f"{position}_branch_add", "add", chain.shape, edge)
        outputs.append(chain.last)
    _add_up(chain, outputs, "")
    chain.append("out_norm", "norm", chain.shape, activation=op.activation)
    chain.conv("out", op.out_channels)
    residual = chain.tensor
    chain.read(block_input)
    if op.stride > 1:
        shape = (op.height // op.stride, op.width // op.stride, op.in_channels)
        kernel = (op.stride, op.stride)
        chain.append("shortcut", "pool", shape, kernel=kernel, stride=op.stride)
    if op.in_channels < op.out_channels:
        chain.append("padded", "pad", residual[1])
    shortcut = chain.last
    chain.read(residual)
    chain.append("add", "add", chain.shape, shortcut, droppable=1)


def _add_node(chain: Chain, op: OpFields, tree: Tree, path: str) -> None:
    """A node whose branches all get its input; their sum."""
    node_input = chain.tensor
    outputs = []
    for position, branch in enumerate(tree.branches):
        chain.read(node_input)
        name = f"{path}{position}"
        _add_edge(chain, op, branch.edge, name)
        if branch.node is not None:
            _add_node(chain, op, branch.node, name)
        outputs.append(chain.last)
    _add_up(chain, outputs, path)


def _add_edge(chain: Chain, op: OpFields, code: str, name: str) -> None:
    if code == IDENTITY:
        chain.append(identity_layer(name), "identity", chain.shape)
        return
    (kind, dilation), kernel = _EDGES[code[0]], int(code[1:])
    chain.prefix = f"{name}_"
    if kind == "sepconv":
        chain.separable(chain.shape[2], kernel, 1, op.activation, dilation)
    else:
        chain.append(kind, kind, chain.shape, kernel=(kernel, kernel))
    chain.prefix = ""


def _add_up(chain: Chain, outputs: list[str], path: str) -> None:
    """The sum of branches, each of which path dropout may leave out."""
    total = outputs[0]
    for count, output in enumerate(outputs[1:], 1):
        chain.read((output, chain.shape))
        droppable = 2 if count == 1 else 1
        chain.append(f"sum{path}_{count}", "add", chain.shape, total, droppable=droppable)
        total = chain.last
