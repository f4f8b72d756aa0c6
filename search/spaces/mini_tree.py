"""`mini-tree`: the operators of `proxyless-cifar` in three blocks, for a search on two cores."""

from dataclasses import replace

from search.space import SearchSpace
from search.spaces import cifar_tree


def build(
    resolution: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1
) -> SearchSpace:
    """Three blocks, of up to 32 channels inside: 36 searched edges, 3e30 networks."""
    space = cifar_tree.build(resolution, 0.32 * width, classes, batch, depth=1)
    return replace(space, name="mini-tree" if width == 1 else f"mini-tree-w{width:g}")
