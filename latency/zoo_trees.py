"""Published networks of tree-structured cells, as facts: the trees of their residual blocks.

A network is written as `depth | last | trees`: blocks a stage, channels inside of the last block
(`latency.pyramid`), and a tree (`latency.trees`) a block.
"""

from latency.errors import SpecError
from latency.network import NetworkSpec
from latency.pyramid import STAGES, head, stem, tree_blocks

CLASSES = 10

TREES = {
    # Cai, Zhu & Han, ICLR 2019, table 1 (Proxyless-G on CIFAR-10), as published
    "proxyless_cifar": """
        18 | 100 |
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
}


def tree_network(name: str, text: str, resolution: int = 32, batch: int = 1) -> NetworkSpec:
    """The network that `text` describes in the format of this module; `SpecError` for others."""
    try:
        depth, last, trees = text.split("|")
        words = trees.split()
        if not words or len(words) != STAGES * int(depth):
            raise ValueError(f"{len(words)} trees for {STAGES} stages of {depth.strip()} blocks")
        first = stem(resolution, batch)
        blocks = tree_blocks(first[-1].out_shape, int(last), words, batch)
    except ValueError as error:
        raise SpecError(f"network '{name}': {error}") from None
    ops = (*first, *blocks, *head(blocks[-1].out_shape, CLASSES, batch))
    return NetworkSpec.of(name, ops)
