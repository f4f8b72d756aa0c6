"""`SearchSpace`: blocks of candidate operators, and the fixed operators around them, as data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latency.candidates import Block
from latency.errors import SpecError
from latency.network import NetworkSpec
from latency.ops import OpSpec


@dataclass(frozen=True)
class SearchSpace:
    """Networks of the form stem, one candidate a block, head.

    A candidate None skips its block, which must then keep its input's shape. `name` and
    `resolution` (of the square input) tell the space apart in tables. `words`: what a command's
    --space takes to load it again, with the options that belong to it.
    """

    name: str
    resolution: int
    classes: int
    stem: tuple[OpSpec, ...]
    blocks: tuple[Block, ...]
    head: tuple[OpSpec, ...]
    words: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for position, block in enumerate(self.blocks):
            shapes = {op.out_shape for op in block if op is not None}
            if None in block:
                shapes |= {(op.height, op.width, op.in_channels) for op in block if op is not None}
            if len(shapes) != 1:
                raise SpecError(
                    f"space '{self.name}', block {position}: the candidates' output shapes differ"
                )

    @property
    def tag(self) -> str:
        """The space's name in a table's header, e.g. "proxyless@224"."""
        return f"{self.name}@{self.resolution}"

    @property
    def fixed(self) -> tuple[OpSpec, ...]:
        """The operators that every network of the space has."""
        return self.stem + self.head

    @cached_property
    def operators(self) -> tuple[OpSpec, ...]:
        """Every operator that some network of the space has, each once."""
        candidates = (op for block in self.blocks for op in block if op is not None)
        return tuple(dict.fromkeys([*self.stem, *candidates, *self.head]))

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of candidates of each block."""
        return tuple(len(block) for block in self.blocks)

    @property
    def size(self) -> int:
        """Number of networks."""
        return math.prod(self.counts)

    @property
    def largest(self) -> tuple[int, ...]:
        """Choices of the network with the most multiply-accumulates."""
        macs = [[op.macs if op else 0 for op in block] for block in self.blocks]
        return tuple(row.index(max(row)) for row in macs)

    def network(self, choices: Sequence[int], name: str = "") -> NetworkSpec:
        """The network that takes candidate `choices[b]` in block b."""
        chosen = (block[i] for block, i in zip(self.blocks, choices, strict=True))
        ops = (*self.stem, *(op for op in chosen if op is not None), *self.head)
        return NetworkSpec.of(name or f"{self.tag}-{'.'.join(map(str, choices))}", ops)

    def random_choices(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Uniformly random choices, shape (count, blocks)."""
        return generator.integers(0, np.array(self.counts), (count, len(self.blocks)))
