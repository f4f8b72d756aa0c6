"""`proxyless`: the ImageNet space of ProxylessNAS (Cai, Zhu, Han, ICLR 2019, section 4.2)."""

from search.space import SearchSpace
from search.spaces.inverted import Stage, divisible, final_size, head, searchable_blocks, stem

STAGES = (
    Stage(24, 4, 2),
    Stage(40, 4, 2),
    Stage(80, 4, 2),
    Stage(96, 4, 1),
    Stage(192, 4, 2),
    Stage(320, 1, 1),
)


def build(
    resolution: int = 224, width: float = 1.0, classes: int = 1000, batch: int = 1
) -> SearchSpace:
    """21 searchable blocks, six or seven candidates each: 2e17 networks."""
    stages = [Stage(divisible(s.channels * width), s.blocks, s.stride) for s in STAGES]
    first, second = divisible(32 * width), divisible(16 * width)
    features = divisible(1280 * max(width, 1.0))
    size = -(-resolution // 2)
    return SearchSpace(
        "proxyless" if width == 1 else f"proxyless-w{width:g}",
        resolution,
        classes,
        stem(resolution, 2, first, second, batch),
        tuple(searchable_blocks(stages, size, second, batch)),
        head(final_size(stages, size), stages[-1].channels, features, classes, batch),
    )
