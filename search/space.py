"""`SearchSpace`: blocks of candidate operators between fixed operators, as data."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from latency.candidates import Block
from latency.errors import SpecError
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec
from latency.operators.trees import with_edges

T = TypeVar("T")

_MAX_LABEL_BLOCKS = 64
"""A network of more blocks is named by a digest of its choices."""


@dataclass(frozen=True)
class Cell:
    """A `tree` operator and the names of its searched edges (`latency.operators.trees`), which are
    identities."""

    op: OpSpec
    edges: tuple[str, ...]

    def grown(self, edges: Sequence[OpSpec | None]) -> OpSpec:
        """The operator with these operators as its searched edges."""
        return with_edges(self.op, dict(zip(self.edges, edges, strict=True)))


@dataclass(frozen=True)
class SearchSpace:
    """Networks of a stem, one candidate per block, and a head.

    A candidate None skips its block, which must then keep its input's shape. `name` and
    `resolution` (of the square input) identify the space in tables. `arguments`: those of the
    command line that load it again. With `cells`, networks are stem, cells, head, and the blocks
    are the cells' searched edges, cell by cell.
    """

    name: str
    resolution: int
    classes: int
    stem: tuple[OpSpec, ...]
    blocks: tuple[Block, ...]
    head: tuple[OpSpec, ...]
    cells: tuple[Cell, ...] = ()
    arguments: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for position, block in enumerate(self.blocks):
            shapes = {op.out_shape for op in block if op is not None}
            if None in block:
                shapes |= {(op.height, op.width, op.in_channels) for op in block if op is not None}
            if len(shapes) > 1 or not block:
                raise SpecError(
                    f"space '{self.name}', block {position}: the candidates' output shapes differ"
                )

    @property
    def tag(self) -> str:
        """The space's name in a table's header, e.g. "proxyless@224"."""
        return f"{self.name}@{self.resolution}"

    @property
    def fixed(self) -> tuple[OpSpec, ...]:
        """The operators of every network of the space."""
        return (*self.stem, *(cell.op for cell in self.cells), *self.head)

    @cached_property
    def operators(self) -> tuple[OpSpec, ...]:
        """The distinct operators of all networks of the space."""
        candidates = (op for block in self.blocks for op in block if op is not None)
        cells = (cell.op for cell in self.cells)
        return tuple(dict.fromkeys([*self.stem, *cells, *candidates, *self.head]))

    @property
    def counts(self) -> tuple[int, ...]:
        """Candidates per block."""
        return tuple(len(block) for block in self.blocks)

    @property
    def size(self) -> int:
        """Number of networks."""
        return math.prod(self.counts)

    @property
    def largest(self) -> tuple[int, ...]:
        """Choices of the network with the most MACs."""
        macs = [[op.macs if op else 0 for op in block] for block in self.blocks]
        return tuple(row.index(max(row)) for row in macs)

    def network(self, choices: Sequence[int], name: str = "") -> NetworkSpec:
        """The network with candidate `choices[b]` in block b."""
        chosen = [block[i] for block, i in zip(self.blocks, choices, strict=True)]
        middle = [op for op in chosen if op is not None]
        if self.cells:
            middle = [cell.grown(edges) for cell, edges in self.by_cell(chosen)]
        ops = (*self.stem, *middle, *self.head)
        return NetworkSpec.of(name or f"{self.tag}-{self.label(choices)}", ops)

    def by_cell(self, values: Sequence[T]) -> Iterator[tuple[Cell, Sequence[T]]]:
        """Each cell with the values of its blocks, given one value per block."""
        start = 0
        for cell in self.cells:
            yield cell, values[start : start + len(cell.edges)]
            start += len(cell.edges)

    def label(self, choices: Sequence[int]) -> str:
        """Choices as part of a file name; a digest if there are more than 64."""
        label = ".".join(map(str, choices))
        if len(choices) <= _MAX_LABEL_BLOCKS:
            return label
        return blake2b(label.encode(), digest_size=8).hexdigest()

    def random_choices(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Uniformly random choices, shape (count, blocks)."""
        return generator.integers(0, np.array(self.counts), (count, len(self.blocks)))

    def light_choices(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Random choices, shape (count, blocks), of networks of all sizes: each network draws among
        the same random fraction of every block's candidates, those with the fewest MACs."""
        by_macs = [np.argsort([op.macs if op else 0 for op in block]) for block in self.blocks]
        shares = generator.random((count, 1))
        among = np.maximum(1, np.ceil(shares * np.array(self.counts))).astype(np.int64)
        ranks = generator.integers(0, among, (count, len(self.blocks)))
        columns = [order[rank] for order, rank in zip(by_macs, ranks.T, strict=True)]
        return np.stack(columns, 1)


def network_at(network: NetworkSpec, batch: int) -> NetworkSpec:
    """The same network at another batch size."""
    return NetworkSpec.of(network.name, _at(network.ops, batch))


def space_at(space: SearchSpace, batch: int) -> SearchSpace:
    """The same space at another batch size."""
    return replace(
        space,
        stem=_at(space.stem, batch),
        blocks=tuple(
            tuple(op and replace(op, batch=batch) for op in block) for block in space.blocks
        ),
        head=_at(space.head, batch),
        cells=tuple(replace(cell, op=replace(cell.op, batch=batch)) for cell in space.cells),
    )


def _at(ops: Iterable[OpSpec], batch: int) -> tuple[OpSpec, ...]:
    return tuple(replace(op, batch=batch) for op in ops)
