"""What a network takes of budgets of sizes, which no device is asked about."""

from collections.abc import Sequence

from latency.network import NetworkSpec
from search.batches import network_at
from search.budget import MACS, PARAMS, Budget, macs_of_one, memory_of


def largest_share(
    network: NetworkSpec, sizes: Sequence[Budget], memory: float | None, batch: int
) -> float:
    """The largest share of a limit that a network takes: of its `sizes`, and of the bytes of
    `memory` for its activations at this batch. 0 where there is no such limit."""
    counts = {PARAMS: network.params, MACS: macs_of_one(network)}
    shares = [counts[size.name] / size.limit for size in sizes]
    if memory is not None:
        shares.append(memory_of(network_at(network, batch)) / memory)
    return max(shares, default=0.0)
