"""A search space of one's own in Python, for what stages in TOML cannot say.

    lat-search --target cpu --space own_space.py --budget 50%

Here it is how to shrink a picture: a strided convolution, a grouped one, or max pooling. All that
a space needs is blocks of candidates with one output shape, and the operators around them; None
skips a block that keeps its shape.
"""

from latency import OpSpec
from search.space import SearchSpace

CHANNELS, STEPS = 32, 3


def build(
    resolution: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1
) -> SearchSpace:
    """Two blocks at each of four sizes: one that shrinks, one that may be skipped."""
    channels = max(8, int(CHANNELS * width) // 8 * 8)
    size = resolution
    stem = OpSpec("conv", size, size, 3, channels, 3, activation="relu", batch=batch)
    blocks = []
    for _ in range(STEPS):
        shape = (size, size, channels, channels)
        strided = {"kernel": 3, "stride": 2, "batch": batch}
        shrinking = (
            OpSpec("conv", *shape, activation="relu", **strided),
            OpSpec("conv", *shape, activation="relu", groups=channels // 8, **strided),
            OpSpec("max_pool", *shape, **strided),
        )
        size, _, _ = shrinking[0].out_shape
        shape = (size, size, channels, channels)
        refining = [
            OpSpec("mbconv", *shape, kernel, 1, 2, "relu", ratio, batch)
            for kernel in (3, 5)
            for ratio in (0, 0.25)
        ]
        blocks += [shrinking, (*refining, None)]
    head = (
        OpSpec("pool", size, size, channels, channels, size, batch=batch),
        OpSpec("linear", 1, 1, channels, classes, batch=batch),
    )
    return SearchSpace("own", resolution, classes, (stem,), tuple(blocks), head)
