"""`mini`: the operators of `proxyless` on 32x32 inputs, for a search of minutes on two cores."""

from search.space import SearchSpace
from search.spaces.inverted import Stage, divisible, final_size, head, searchable_blocks, stem

STAGES = (Stage(24, 3, 1), Stage(40, 3, 2), Stage(80, 3, 2))


def build(
    resolution: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1
) -> SearchSpace:
    """Nine searchable blocks, six or seven candidates each: 2.5e7 networks."""
    stages = [Stage(divisible(s.channels * width), s.blocks, s.stride) for s in STAGES]
    first, second = divisible(16 * width), divisible(16 * width)
    size = -(-resolution // 2)
    return SearchSpace(
        "mini" if width == 1 else f"mini-w{width:g}",
        resolution,
        classes,
        stem(resolution, 2, first, second, batch),
        tuple(searchable_blocks(stages, size, second, batch)),
        head(final_size(stages, size), stages[-1].channels, 256, classes, batch),
    )
