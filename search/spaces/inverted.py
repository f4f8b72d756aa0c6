"""What spaces of inverted bottlenecks in stages have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from latency.candidates import Block
from latency.operators.spec import OpSpec


@dataclass(frozen=True)
class Candidates:
    """What a block may be: every combination of these, the kernel varying fastest.

    Kinds: `mbconv`, an inverted bottleneck, and `conv`, a plain convolution, of which expansion
    and squeeze-excite tell nothing. `squeeze_excite`: the ratio of squeezed to hidden channels, 0
    for none.
    """

    kinds: Sequence[str] = ("mbconv",)
    kernels: Sequence[int] = (3, 5, 7)
    expansions: Sequence[float] = (3, 6)
    squeeze_excite: Sequence[float] = (0,)
    activations: Sequence[str] = ("relu6",)

    def operators(
        self, size: int, in_channels: int, out_channels: int, stride: int, batch: int
    ) -> list[OpSpec]:
        """The candidates on a `size` x `size` x `in_channels` input, each once."""
        ops = []
        for kind, activation, ratio, expansion, kernel in product(
            self.kinds, self.activations, self.squeeze_excite, self.expansions, self.kernels
        ):
            shape = (size, size, in_channels, out_channels, kernel, stride)
            op = OpSpec(kind, *shape, activation=activation, batch=batch)
            if kind == "mbconv":
                op = replace(op, expansion=expansion, squeeze_excite=ratio)
            ops.append(op)
        return list(dict.fromkeys(ops))


@dataclass(frozen=True)
class Stage:
    """`blocks` searchable blocks of `channels` channels; the first one has the stride.

    All but the first `least` of them may be skipped.
    """

    channels: int
    blocks: int
    stride: int
    least: int = 1
    candidates: Candidates = Candidates()


def divisible(channels: float, by: int = 8) -> int:
    """The multiple of 8 nearest to `channels`, never more than 10 % below it (the rounding of
    the MobileNets, whose width multipliers need it)."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def searchable_blocks(stages: Sequence[Stage], size: int, channels: int, batch: int) -> list[Block]:
    """The blocks of all stages on a `size` x `size` x `channels` input: the stage's candidates,
    and skip where a block may be left out."""
    blocks: list[Block] = []
    for stage in stages:
        for position in range(stage.blocks):
            stride = stage.stride if position == 0 else 1
            ops = stage.candidates.operators(size, channels, stage.channels, stride, batch)
            blocks.append((*ops, None) if position >= stage.least else tuple(ops))
            size, channels = -(-size // stride), stage.channels
    return blocks


def final_size(stages: Sequence[Stage], size: int) -> int:
    """Height and width after all stages."""
    for stage in stages:
        size = -(-size // stage.stride)
    return size
