"""Tree-structured cells (Cai et al., Path-Level Network Transformation, ICML 2018), and the
residual block around one: the operator `tree`.

A node hands its input to its branches and adds what they return; a branch is an edge, and behind
it the next node, or none. In writing, a node is its branches in brackets, an edge its code:

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
first node, the tree, and 1x1 out of the bottleneck; then the shortcut, averaged where there is a
stride and padded with zeros where channels grow (Han et al., PyramidNet, CVPR 2017).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from latency.errors import SpecError
from latency.operators.chain import Chain
from latency.operators.fields import Op, OpFields
from latency.operators.layer import Layer

IDENTITY = "i"


@dataclass(frozen=True)
class _Edge:
    """The operator that an edge is. `activates`: has the activation of its tree."""

    kind: str
    dilation: int = 1
    activates: bool = False

    def append(self, chain: Chain, op: OpFields, kernel: int) -> None:
        """Append its layers inside of the tree `op`."""
        if self.activates:
            chain.separable(chain.shape[2], kernel, 1, op.activation, self.dilation)
        else:
            chain.padded_pool(self.kind, kernel)


_EDGES = {
    "s": _Edge("sepconv", activates=True),
    "d": _Edge("sepconv", dilation=2, activates=True),
    "m": _Edge("max_pool"),
    "a": _Edge("avg_pool"),
}
"""First letter of an edge's code to what the edge is; the kernel follows."""
_WORD = re.compile(r"[()]|i|[sdma][3579]")
_DEEPEST, _MOST_BRANCHES, _MOST_EDGES = 32, 10, 256
"""Levels of a tree, branches of a node (the name of an edge has one digit for each node before it),
and edges of a tree."""


@dataclass(frozen=True)
class Branch:
    """An edge by its code, and the node behind it."""

    edge: str
    node: "Tree | None" = None


@dataclass(frozen=True)
class Tree:
    """A node of one branch at least."""

    branches: tuple[Branch, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The tree that `text` describes; `SpecError` where it is none."""
        written: list[list[Branch]] = []
        tree = None
        edges = 0
        for word in _WORD.findall(text):
            if word == "(":
                written.append([])
            elif not written or len(written) > _DEEPEST:
                break
            elif word != ")":
                written[-1].append(Branch(word))
                edges += 1
                if edges > _MOST_EDGES or len(written[-1]) > _MOST_BRANCHES:
                    break
            else:
                tree = cls(tuple(written.pop()))
                if written and written[-1]:
                    written[-1][-1] = Branch(written[-1][-1].edge, tree)
        if tree is None or written or str(tree) != text:
            codes = ", ".join(f"{letter}3" for letter in _EDGES)
            raise SpecError(
                f"'{text[:100]}' is no tree such as (i(s3m3)i(s5d7)), of edges i, {codes}, "
                f"{_DEEPEST} levels deep at most, with {_MOST_BRANCHES} branches of a node and "
                f"{_MOST_EDGES} edges at most"
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

    def with_edges(self, codes: Mapping[str, str], path: str = "") -> "Tree":
        """The tree with other edges where `codes` names them."""
        return Tree(
            tuple(
                Branch(
                    codes.get(f"{path}{position}", branch.edge),
                    branch.node and branch.node.with_edges(codes, f"{path}{position}"),
                )
                for position, branch in enumerate(self.branches)
            )
        )


def edge_operator(op: Op, code: str) -> Op | None:
    """The operator that an edge of the `tree` operator is, measured alone; None for an identity."""
    if code == IDENTITY:
        return None
    edge, hidden = _EDGES[code[0]], hidden_channels(op)
    return replace(
        op,
        kind=edge.kind,
        height=op.height // op.stride,
        width=op.width // op.stride,
        in_channels=hidden,
        out_channels=hidden,
        kernel=int(code[1:]),
        stride=1,
        expansion=1,
        activation=op.activation if edge.activates else "none",
        groups=1,
        dilation=edge.dilation,
        tree="",
    )


def edge_code(edge: OpFields | None) -> str:
    """The code of the edge that is this operator; `SpecError` where no edge can be it."""
    if edge is None:
        return IDENTITY
    for letter, what in _EDGES.items():
        is_alike = (what.kind, what.dilation) == (edge.kind, edge.dilation)
        if is_alike and _WORD.fullmatch(f"{letter}{edge.kernel}"):
            return f"{letter}{edge.kernel}"
    raise SpecError(f"{edge.key}: no edge of a tree is such an operator")


def with_edges(op: Op, edges: Mapping[str, Op | None]) -> Op:
    """The `tree` operator with other edges, by their names."""
    codes = {name: edge_code(edge) for name, edge in edges.items()}
    return replace(op, tree=str(Tree.parse(op.tree).with_edges(codes)))


def tree_parts(op: Op) -> tuple[Op, ...]:
    """A `tree` operator without its edges (all are identities), then its edges."""
    codes = Tree.parse(op.tree).edges()
    edges = [edge_operator(op, code) for code in codes.values()]
    return with_edges(op, dict.fromkeys(codes)), *(edge for edge in edges if edge is not None)


def hidden_channels(op: OpFields) -> int:
    """Channels inside of a `tree`: its `expansion` is their ratio to its output channels."""
    return max(1, round(op.out_channels * op.expansion))


def identity_layer(name: str) -> str:
    """Name of the layer that an edge is as long as it is the identity."""
    return f"{name}_identity"


def check_tree(op: OpFields) -> None:
    """Raise `SpecError` where a `tree` cannot be written with these sizes."""
    Tree.parse(op.tree)
    if hidden_channels(op) % op.groups:
        raise SpecError(f"{op.key}: the groups do not divide the {hidden_channels(op)} channels")
    if op.height % op.stride or op.width % op.stride:
        raise SpecError(f"{op.key}: the stride of a tree divides its input's height and width")
    if op.in_channels > op.out_channels:
        raise SpecError(f"{op.key}: a tree has no fewer channels than its input")


def decompose_tree(op: OpFields) -> tuple[Layer, ...]:
    """A residual block around a tree-structured cell."""
    chain = Chain.of(op)
    tree, hidden = Tree.parse(op.tree), hidden_channels(op)
    beginning = chain.place
    chain.norm("in_norm")
    chain.conv("in", hidden, activation=op.activation)  # with the root's norm and activation
    wide = len(tree.branches) * hidden
    chain.conv("root", wide, op.kernel, op.stride, op.groups, norm=False, bias=False)
    if op.groups > 1:
        chain.append("shuffle", "shuffle", chain.shape, groups=op.groups)
    whole = chain.place
    outputs = []
    for position, branch in enumerate(tree.branches):
        chain.return_to(whole)
        if len(tree.branches) > 1:
            share = (*chain.shape[:2], hidden)
            chain.append(f"{position}_split", "slice", share, start=position * hidden)
        _add_edge(chain, op, branch.edge, str(position))
        edge = chain.last
        if branch.node is not None:
            _add_node(chain, op, branch.node, str(position))
        chain.norm(f"{position}_branch_norm")
        chain.join(f"{position}_branch_add", "add", edge)
        outputs.append(chain.last)
    _add_up(chain, outputs, "")
    chain.norm("out_norm", op.activation)
    chain.conv("out", op.out_channels)
    residual = chain.place
    chain.return_to(beginning)
    if op.stride > 1:
        chain.pool("shortcut", (op.stride, op.stride), op.stride)
    if op.in_channels < op.out_channels:
        chain.append("padded", "pad", residual[1])
    shortcut = chain.last
    chain.return_to(residual)
    chain.join("add", "add", shortcut, droppable=1)
    return chain.layers


def _add_node(chain: Chain, op: OpFields, tree: Tree, path: str) -> None:
    """A node whose branches all get its input; their sum."""
    beginning = chain.place
    outputs = []
    for position, branch in enumerate(tree.branches):
        chain.return_to(beginning)
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
    chain.prefix = f"{name}_"
    _EDGES[code[0]].append(chain, op, int(code[1:]))
    chain.prefix = ""


def _add_up(chain: Chain, outputs: list[str], path: str) -> None:
    """The sum of branches, each of which path dropout may leave out."""
    total = outputs[0]
    for count, output in enumerate(outputs[1:], 1):
        chain.return_to((output, chain.shape))
        chain.join(f"sum{path}_{count}", "add", total, droppable=2 if count == 1 else 1)
        total = chain.last
