"""`proxyless-cifar`: the tree-structured space of ProxylessNAS on CIFAR-10 (Cai, Zhu & Han, ICLR
2019, section 4.1; the cells are those of Cai et al., Path-Level Network Transformation, ICML 2018).

In every residual block of a PyramidNet the 3x3 convolution is followed by a tree of depth 3 with
two branches per node. The edges of its first level, after the split, are identities; each of the
twelve below is a searched block, as in the published network.
"""

from dataclasses import replace

from latency.candidates import Block
from latency.operators.trees import IDENTITY, Tree, edge_operator
from latency.zoo.pyramid_nets import head, stem, tree_blocks
from search.space import Cell, SearchSpace

TREE = "(i(i(ii)i(ii))i(i(ii)i(ii)))"
CANDIDATES = ("s3", "s5", "s7", "d3", "a3", "m3", IDENTITY)
"""Separable 3x3, 5x5, 7x7 and dilated 3x3 convolutions, average and max pooling, identity."""
DEPTH, HIDDEN = 18, 100
"""Blocks per stage, and channels inside the last block: a quarter of its 400 output channels."""


def build(
    resolution: int = 32,
    width: float = 1.0,
    classes: int = 10,
    batch: int = 1,
    depth: int = DEPTH,
) -> SearchSpace:
    """`depth` blocks in each of three stages, each with twelve searched edges of seven candidates:
    648 edges and 4e547 networks at the published depth. `width` multiplies the channels of the last
    block; those of the others grow linearly from the stem's."""
    unusual = [f"w{width:g}"] * (width != 1) + [f"d{depth}"] * (depth != DEPTH)
    first = stem(resolution, batch)
    ops = tree_blocks(first[-1].out_shape, round(HIDDEN * width), [TREE] * (3 * depth), batch)
    searched = tuple(edge for edge in Tree.parse(TREE).edges() if len(edge) > 1)
    cells = tuple(Cell(op, searched) for op in ops)
    blocks: list[Block] = []
    for op in ops:
        candidates = tuple(edge_operator(op, code) for code in CANDIDATES)
        blocks += [candidates] * len(searched)
    return SearchSpace(
        "-".join(["proxyless-cifar", *unusual]),
        resolution,
        classes,
        first,
        tuple(blocks),
        head(ops[-1].out_shape, classes, batch),
        cells,
    )


def build_mini(
    resolution: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1
) -> SearchSpace:
    """`mini-tree`: three blocks of up to 32 inner channels, for a search on two cores: 36 searched
    edges, 3e30 networks."""
    space = build(resolution, 0.32 * width, classes, batch, depth=1)
    return replace(space, name="mini-tree" if width == 1 else f"mini-tree-w{width:g}")
