"""Networks of tree-structured cells: a PyramidNet of residual blocks, each with a tree
(`latency.operators.trees`)."""

from collections.abc import Sequence

from latency.operators.kinds import Shape
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec

STEM_CHANNELS = 16
STAGES = 3
EXPANSION = 0.25
"""Channels inside a block, as a share of its output channels."""
GROUPS = 2

PROXYLESS_CIFAR = (
    "proxyless_cifar",
    100,
    """
        (i(s7(d3i)m3(s7m3))i(s5(s5s5)d3(s7s7))) (i(a3(a3a3)i(s3i))i(m3(d3i)s7(d3d3)))
        (i(s7(s3a3)i(s5a3))i(s3(s3a3)d3(d3s5))) (i(a3(s5d3)s5(s3d3))i(d3(s7s3)s7(is7)))
        (i(a3(s5d3)i(d3s5))i(s7(s7a3)m3(im3))) (i(s7(s7m3)m3(s3s5))i(a3(d3s3)s7(ii)))
        (i(d3(im3)m3(s7s7))i(s7(s5s3)s7(ii))) (i(d3(s5s7)d3(s5s7))i(m3(a3a3)s5(s3s7)))
        (i(s7(s5m3)d3(ii))i(m3(s3a3)m3(a3d3))) (i(s5(s3i)i(s3s7))i(s3(s5s7)i(s5s7)))
        (i(s7(s7s5)a3(s3s5))i(d3(a3d3)i(d3s3))) (i(s5(a3s5)d3(s3s3))i(a3(s7s7)s5(d3s3)))
        (i(m3(s7s3)m3(s7d3))i(s3(a3s5)m3(s7i))) (i(s3(m3d3)s7(s7d3))i(s5(is3)d3(s7s3)))
        (i(d3(m3s3)a3(d3d3))i(a3(s5i)i(s5i))) (i(s5(d3s5)i(a3a3))i(d3(s5s5)s5(s7s3)))
        (i(s7(s5s5)s5(d3s3))i(i(m3s7)d3(s3s7))) (i(m3(ii)d3(s3i))i(s7(s5s7)m3(id3)))
        (i(d3(s5a3)m3(a3s7))i(s5(s7s3)a3(a3m3))) (i(s7(is7)d3(is7))i(d3(s3s7)m3(m3s5)))
        (i(m3(a3s3)d3(id3))i(m3(m3s5)m3(ia3))) (i(d3(s7s3)a3(a3s3))i(s3(s7i)a3(d3d3)))
        (i(d3(m3a3)m3(s7i))i(s7(d3i)d3(a3m3))) (i(s7(m3s7)s5(m3i))i(m3(a3d3)i(m3s7)))
        (i(i(a3s5)s5(m3s5))i(d3(s7a3)d3(d3m3))) (i(s3(a3d3)i(d3d3))i(d3(a3a3)s3(a3s3)))
        (i(d3(m3s7)s7(im3))i(m3(s5s5)m3(s5d3))) (i(s3(s7s3)s7(a3i))i(m3(s3s7)s7(m3m3)))
        (i(s7(s7s7)s5(a3s3))i(s3(id3)s3(a3s3))) (i(s5(a3i)i(a3s5))i(a3(s3a3)s7(a3m3)))
        (i(i(a3d3)s3(is7))i(i(s7m3)a3(id3))) (i(s7(s5i)m3(s7d3))i(m3(d3m3)s7(s7s7)))
        (i(s3(m3s3)s7(is3))i(s5(is3)s3(s5i))) (i(d3(d3s3)s7(d3s7))i(s3(s3d3)i(m3i)))
        (i(m3(is5)i(s5a3))i(s3(a3i)s7(a3d3))) (i(s7(s7s5)m3(d3a3))i(s7(s7s5)s3(s5s5)))
        (i(a3(a3a3)a3(d3a3))i(s7(s5i)i(ia3))) (i(m3(ia3)s7(s5i))i(i(a3i)i(s7i)))
        (i(d3(s7m3)s3(is5))i(a3(s3i)i(m3a3))) (i(s7(a3s5)s7(a3s3))i(m3(a3s3)i(m3m3)))
        (i(i(a3s7)i(is7))i(i(a3s5)m3(a3s7))) (i(d3(s5i)i(m3s5))i(s7(d3s7)s5(id3)))
        (i(m3(ia3)m3(a3m3))i(d3(is5)a3(s3i))) (i(s7(s5s7)s7(s7a3))i(d3(s3m3)s7(s7a3)))
        (i(d3(d3m3)a3(d3s3))i(s7(id3)d3(m3s5))) (i(a3(a3m3)d3(s3m3))i(d3(s7d3)i(a3i)))
        (i(m3(a3s7)m3(s3s3))i(s5(a3i)d3(is3))) (i(s5(s7d3)d3(im3))i(m3(s3s5)s7(m3i)))
        (i(s7(s3m3)s7(d3a3))i(m3(m3m3)s5(s5m3))) (i(m3(ia3)s5(d3s3))i(s5(s7s3)s3(s7s7)))
        (i(i(a3s5)s3(s7s7))i(i(s7s7)s7(s3a3))) (i(s5(s5s3)m3(a3i))i(s5(a3m3)s5(s5i)))
        (i(s3(d3s3)m3(m3a3))i(i(m3d3)s7(s3s3))) (i(s7(s3m3)s7(s5i))i(s5(m3s3)m3(s3s7)))
    """,
)
"""Proxyless-G on CIFAR-10 as published (Cai, Zhu & Han, ICLR 2019, table 1): its name, the channels
inside the last block, and the tree of each block."""


def tree_network(
    name: str, last: int, trees: str, resolution: int = 32, batch: int = 1
) -> NetworkSpec:
    """The network of these trees, with 10 classes; `last`: channels inside the last block."""
    ops = stem(resolution, batch)
    ops += tuple(tree_blocks(ops[-1].out_shape, last, trees.split(), batch))
    return NetworkSpec.of(name, ops + head(ops[-1].out_shape, 10, batch))


def hidden_widths(depth: int, last: int) -> tuple[int, ...]:
    """Channels inside each block, `depth` per stage: they grow linearly from the stem's to `last`,
    rounded, then rounded down to a multiple of the groups."""
    blocks = STAGES * depth
    step = (last - STEM_CHANNELS) / blocks
    rounded = (round(STEM_CHANNELS + step * (block + 1)) for block in range(blocks))
    return tuple(width - width % GROUPS for width in rounded)


def stem(resolution: int, batch: int = 1) -> tuple[OpSpec, ...]:
    """A 3x3 convolution and its norm."""
    return (OpSpec("conv", resolution, resolution, 3, STEM_CHANNELS, 3, batch=batch),)


def tree_blocks(shape: Shape, last: int, trees: Sequence[str], batch: int = 1) -> list[OpSpec]:
    """Residual blocks of these trees on an input of this shape, equally many in each stage; the
    first block of every stage except the first has stride 2."""
    depth = len(trees) // STAGES
    ops: list[OpSpec] = []
    for position, (hidden, tree) in enumerate(zip(hidden_widths(depth, last), trees, strict=True)):
        stride = 2 if position and position % depth == 0 else 1
        sizes = (*shape, round(hidden / EXPANSION), 3, stride, EXPANSION, "relu")
        ops.append(OpSpec("tree", *sizes, batch=batch, groups=GROUPS, tree=tree))
        shape = ops[-1].out_shape
    return ops


def head(shape: Shape, classes: int, batch: int = 1) -> tuple[OpSpec, ...]:
    """Norm and ReLU, global average pooling, and the classifier."""
    height, _, channels = shape
    return (
        OpSpec("norm", *shape, channels, activation="relu", batch=batch),
        OpSpec("pool", *shape, channels, height, batch=batch),
        OpSpec("linear", 1, 1, channels, classes, batch=batch),
    )
