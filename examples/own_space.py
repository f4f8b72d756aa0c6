"""Your own search space in Python, for spaces that stages in TOML cannot describe.

    lat-search --target cpu --space own_space.py --budget 50%

This space searches how to downsample an image: by a strided convolution, a strided grouped
convolution or max pooling. A space consists of blocks and the fixed operators around them. All
candidates of a block have the same output shape. The candidate None skips the block; it is allowed
if the block's output has the shape of its input.
"""

from latency import OpSpec
from search.space import SearchSpace

CHANNELS, STEPS = 32, 3


def build(
    resolution: int = 32, width: float = 1.0, classes: int = 10, batch: int = 1
) -> SearchSpace:
    """Three times two blocks: one halves the resolution, the other may be skipped."""
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
