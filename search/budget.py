"""`Budget`: how long a network may take on a target, or how large it may be, held against what a
space can reach."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency.candidates import CandidateLatency, sum_over
from latency.errors import UsageError
from latency.operators.network import NetworkSpec, peak_bytes
from latency.operators.spec import OpSpec
from latency.units import format_bytes, format_count, format_ms, parse_bytes, parse_count, parse_ms
from search.derivation.knapsack import derive
from search.space import SearchSpace

PARAMS, MACS, MEMORY = "params", "macs", "memory"
SIZES = (PARAMS, MACS, MEMORY)
"""Names of budgets that are of no target."""


@dataclass(frozen=True)
class Budget:
    """At most `limit` of a cost that adds up over a network's operators.

    `name`: a target's name (the cost is its latency in ms), "params" or "macs". `costs`: the cost
    laid out over the candidates of a space. `share`: of what these span, where the limit was asked
    for as one.
    """

    name: str
    limit: float
    costs: CandidateLatency
    share: float | None = None

    @property
    def asked(self) -> str | float:
        """What was asked for, which stays the same where the costs become better known: a share
        such as "50%", or the limit itself."""
        return self.limit if self.share is None else f"{100 * self.share:g}%"

    @property
    def is_latency(self) -> bool:
        """Whether it is a latency on a target."""
        return self.name not in SIZES

    @property
    def unit(self) -> str:
        """ "ms" of a latency, nothing of a number."""
        return "ms" if self.is_latency else ""

    def text(self, value: float) -> str:
        """A value of this cost as people write it."""
        return format_ms(value) if self.is_latency else format_count(value)

    def check(self) -> str | None:
        """Whether the space has a network within the budget, before anything is trained.

        Raises `UsageError` with the feasible range where it has none. Returns a notice where the
        budget binds nothing, else None.
        """
        fastest, slowest = self.costs.fastest_ms, self.costs.slowest_ms
        least, most = ("fastest", "slowest") if self.is_latency else ("smallest", "largest")
        named = "budget" if self.is_latency else f"{self.name} budget"
        feasible = f"the space reaches from {self.text(fastest)} to {self.text(slowest)}"
        if self.limit < fastest:
            raise UsageError(
                f"{named} {self.text(self.limit)} is below the {least} network: {feasible}"
            )
        if self.limit > slowest:
            return f"{named} {self.text(self.limit)} is above the {most} network: {feasible}"
        return None


def check_together(budgets: Sequence[Budget]) -> None:
    """Whether one network of the space is within all budgets; `UsageError` where none is."""
    first, *others = budgets
    derive(
        np.zeros(first.costs.matrix.shape),
        first.costs,
        first.limit,
        others=[(other.costs, other.limit) for other in others],
    )


@dataclass(frozen=True)
class AskedBudget:
    """A budget as a user writes it: `NAME=AMOUNT`, or an amount alone, which is of the target.

    The amount is a duration ("5ms"), a number for parameters and multiply-accumulates ("3M"),
    bytes for memory ("2MB"), or a share of what the space spans ("50%": half way from its least
    to its most), which only becomes an amount once a space is known.
    """

    name: str | None
    amount: float | None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "AskedBudget":
        """Read "5ms", "gpu=750us", "50%", "params=3M", "memory=2MB"; `UsageError` for anything
        that is no positive amount and no share between 0 and 100 %."""
        name, _, amount = text.rpartition("=")
        name = name.strip()
        if amount.strip().endswith("%"):
            if name == MEMORY:
                raise UsageError(f"'{text}': a memory budget is a size such as 2MB")
            return cls(name or None, None, _share(amount))
        parse = {PARAMS: parse_count, MACS: parse_count, MEMORY: parse_bytes}.get(name, parse_ms)
        return cls(name or None, parse(amount))

    def named(self, target: str) -> "AskedBudget":
        """The same budget, of `target` where it names nothing."""
        return self if self.name else replace(self, name=target)

    @property
    def text(self) -> str:
        """The amount, of ms, or the share, in short: "5ms", "50%"."""
        return f"{100 * self.share:g}%" if self.share is not None else f"{self.amount:.4g}ms"

    def of(self, costs: CandidateLatency) -> Budget:
        """The budget over a space's costs."""
        assert self.name is not None
        if self.amount is not None:
            return Budget(self.name, self.amount, costs)
        assert self.share is not None
        spanned = costs.slowest_ms - costs.fastest_ms
        return Budget(self.name, costs.fastest_ms + self.share * spanned, costs, self.share)


def _share(text: str) -> float:
    try:
        share = float(text.strip()[:-1]) / 100
    except ValueError:
        raise UsageError(f"'{text}' has no number; write a share such as 50%") from None
    if math.isnan(share) or not 0 <= share <= 1:
        raise UsageError(f"'{text}' is not between 0% and 100% of the space's range")
    return share


def size_costs(space: SearchSpace, name: str) -> CandidateLatency:
    """Parameters, or multiply-accumulates of one input, of every network of a space."""

    def size(op: OpSpec) -> float:
        return op.macs / op.batch if name == MACS else float(op.params)

    return sum_over(size, space.blocks, space.fixed)


def macs_of_one(network: NetworkSpec) -> int:
    """Multiply-accumulates of a network for one input of its batch."""
    return network.macs // network.batch


def memory_of(network: NetworkSpec) -> int:
    """Most bytes of a network's activations alive at once, of its whole batch."""
    return max(map(peak_bytes, network.ops))


def within_memory(space: SearchSpace, limit: float) -> SearchSpace:
    """The space without the candidates whose activations take over `limit` bytes: a network's
    peak is that of its largest operator. That of a grown tree is the one of its cell, which is
    fixed: as an edge, an identity has an input and an output alive, too, as any candidate has.
    Raises `UsageError` where a network needs one of them."""
    least = max(
        *(peak_bytes(op) for op in space.fixed),
        *(min(peak_bytes(op) if op else 0 for op in block) for block in space.blocks),
    )
    if limit < least:
        raise UsageError(
            f"memory budget {format_bytes(limit)}: every network of the space takes at least "
            f"{format_bytes(least)} for its activations"
        )
    blocks = tuple(
        tuple(op for op in block if op is None or peak_bytes(op) <= limit) for block in space.blocks
    )
    return replace(space, blocks=blocks)
