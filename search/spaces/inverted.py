"""What spaces of inverted bottlenecks in stages have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

from latency.candidates import Block
from latency.ops import OpSpec

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 6)


@dataclass(frozen=True)
class Stage:
    """`blocks` searchable blocks of `channels` channels; the first one has the stride."""

    channels: int
    blocks: int
    stride: int


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of 8 nearest to `channels`, never more than 10 % below it (the rounding of
    the MobileNets, whose width multipliers need it)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def searchable_blocks(stages: Sequence[Stage], size: int, channels: int, batch: int) -> list[Block]:
    """The blocks of all stages on a `size` x `size` x `channels` input.

    Candidates: kernel 3, 5, 7 x expansion 3, 6, and skip for every block but a stage's first.
    """
    blocks: list[Block] = []
    for stage in stages:
        for position in range(stage.blocks):
            stride = stage.stride if position == 0 else 1
            candidates: list[OpSpec | None] = [
                OpSpec(
                    "mbconv",
                    size,
                    size,
                    channels,
                    stage.channels,
                    kernel,
                    stride,
                    expansion,
                    "relu6",
                    batch=batch,
                )
                for expansion in EXPANSIONS
                for kernel in KERNELS
            ]
            if position > 0:
                candidates.append(None)
            blocks.append(tuple(candidates))
            size, channels = -(-size // stride), stage.channels
    return blocks


def stem(size: int, stride: int, first: int, second: int, batch: int) -> tuple[OpSpec, ...]:
    """A 3x3 convolution to `first` channels and a block of expansion 1 to `second`."""
    conv = OpSpec("conv", size, size, 3, first, 3, stride, activation="relu6", batch=batch)
    height, width, _ = conv.out_shape
    block = OpSpec("mbconv", height, width, first, second, 3, 1, 1, "relu6", batch=batch)
    return conv, block


def head(size: int, channels: int, features: int, classes: int, batch: int) -> tuple[OpSpec, ...]:
    """A 1x1 convolution to `features` channels, global average pooling, and the classifier."""
    return (
        OpSpec("conv", size, size, channels, features, 1, 1, activation="relu6", batch=batch),
        OpSpec("pool", size, size, features, features, size, batch=batch),
        OpSpec("linear", 1, 1, features, classes, batch=batch),
    )


def final_size(stages: Sequence[Stage], size: int) -> int:
    """Height and width after all stages."""
    for stage in stages:
        size = -(-size // stage.stride)
    return size
