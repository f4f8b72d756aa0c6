"""PyramidNets (Han, Kim & Kim, CVPR 2017) of residual blocks with tree-structured cells: what the
CIFAR-10 networks of ProxylessNAS (Cai, Zhu & Han, ICLR 2019, section 4.1) have in common."""

from collections.abc import Sequence

from latency.layers import Shape
from latency.ops import OpSpec

STEM_CHANNELS = 16
STAGES = 3
EXPANSION = 0.25
"""Channels inside of a block, as a share of those it returns."""
GROUPS = 2


def hidden_widths(depth: int, last: int) -> tuple[int, ...]:
    """Channels inside of each of `depth` blocks a stage: from those of the stem they grow by the
    same step to `last`, rounded and then down to a multiple of the groups."""
    blocks = STAGES * depth
    step = (last - STEM_CHANNELS) / blocks
    rounded = (round(STEM_CHANNELS + step * (block + 1)) for block in range(blocks))
    return tuple(width - width % GROUPS for width in rounded)


def stem(resolution: int, batch: int = 1) -> tuple[OpSpec, ...]:
    """A 3x3 convolution and its norm."""
    return (OpSpec("conv", resolution, resolution, 3, STEM_CHANNELS, 3, batch=batch),)


def tree_blocks(shape: Shape, last: int, trees: Sequence[str], batch: int = 1) -> list[OpSpec]:
    """Residual blocks of these trees on an input of this shape, as many in each stage; the first
    of every stage but the first has stride 2."""
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
