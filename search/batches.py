"""Networks and spaces for another batch: their weights serve any, their latencies are of one."""

from collections.abc import Iterable
from dataclasses import replace

from latency.network import NetworkSpec
from latency.ops import OpSpec
from search.space import SearchSpace


def network_at(network: NetworkSpec, batch: int) -> NetworkSpec:
    """The same network, for `batch` inputs at once."""
    return NetworkSpec.of(network.name, _at(network.ops, batch))


def space_at(space: SearchSpace, batch: int) -> SearchSpace:
    """The same space, for `batch` inputs at once; its choices mean the same networks."""
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
