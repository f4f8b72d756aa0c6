"""`Budget`: a limit on a network's latency, parameters, multiply-accumulates or memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

import numpy as np

from latency.candidates import CandidateLatency, sum_over
from latency.errors import InfeasibleError, UsageError
from latency.operators.network import NetworkSpec, peak_bytes
from latency.prediction import LatencyModel, Prediction
from latency.units import format_amount, format_bytes, parse_bytes, parse_count, parse_ms
from search.derivation.knapsack import derive
from search.space import SearchSpace, network_at

UNKNOWN_COSTS = CandidateLatency(0.0, np.empty((0, 0)), np.empty(0, np.int64))
"""The costs of a budget before its space is known."""


class BudgetKind(StrEnum):
    """What a budget limits. A budget other than a latency is named by its kind."""

    LATENCY = "latency"
    PARAMS = "params"
    MACS = "macs"
    MEMORY = "memory"

    @classmethod
    def of_name(cls, name: str) -> "BudgetKind":
        """The kind of a budget of this name; any other name is a target's, of a latency."""
        return next((kind for kind in cls if kind.value == name), cls.LATENCY)

    @property
    def unit(self) -> str:
        """ "ms", "bytes", or nothing for a count."""
        return {BudgetKind.LATENCY: "ms", BudgetKind.MEMORY: "bytes"}.get(self, "")


@dataclass(frozen=True)
class Budget:
    """A network may use at most `limit`: ms of latency, a count, or bytes.

    `name`: a target's name (a latency), "params", "macs" or "memory". `share`: the limit as a share
    of the space's range, if it was given as one; then the limit is NaN until the space is known
    (`over`). `costs`: those of each candidate of the space; `UNKNOWN_COSTS` until then, and for
    memory, which does not add up over operators. `batch`: of a latency and of memory. `model`:
    predicts a latency.
    """

    name: str
    limit: float
    costs: CandidateLatency = UNKNOWN_COSTS
    share: float | None = None
    batch: int = 1
    model: LatencyModel | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str, target: str) -> Self:
        """Read `NAME=AMOUNT`, or an amount alone, which limits the latency on `target`.

        The amount is a duration ("5ms"), a count for parameters and multiply-accumulates ("3M"),
        bytes for memory ("2MB"), or a share of the space's range ("50%": half way from its smallest
        to its largest). Raises `UsageError` for anything that is not a positive amount and not a
        share from 0 to 100 %.
        """
        name, _, amount = text.rpartition("=")
        name = name.strip() or target
        kind = BudgetKind.of_name(name)
        if not amount.strip().endswith("%"):
            return cls(name, _PARSERS[kind](amount))
        if kind is BudgetKind.MEMORY:
            raise UsageError(f"'{text}': a memory budget is a size such as 2MB")
        return cls(name, math.nan, share=_share(amount))

    @property
    def kind(self) -> BudgetKind:
        """What it limits."""
        return BudgetKind.of_name(self.name)

    @property
    def adds_up(self) -> bool:
        """Whether it limits a sum over operators."""
        return self.kind is not BudgetKind.MEMORY

    @property
    def asked(self) -> str | float:
        """The budget as the user gave it: a share such as "50%", or the limit."""
        return self.limit if self.share is None else f"{100 * self.share:g}%"

    def over(
        self, costs: CandidateLatency, model: LatencyModel | None = None, batch: int = 1
    ) -> Self:
        """The same budget over the candidates of a space; a share becomes a limit."""
        limit = self.limit
        if self.share is not None:
            limit = costs.fastest_ms + self.share * (costs.slowest_ms - costs.fastest_ms)
        return replace(self, limit=limit, costs=costs, model=model, batch=batch)

    def predict(self, network: NetworkSpec) -> Prediction:
        """The latency of a network with its interval, at this budget's batch, by its model."""
        assert self.model is not None
        return self.model.predict(network_at(network, self.batch))

    def usage(self, network: NetworkSpec) -> float:
        """How much a network uses of the budget: predicted ms, a count, or the peak bytes of its
        activations."""
        match self.kind:
            case BudgetKind.LATENCY:
                return self.predict(network).ms
            case BudgetKind.PARAMS:
                return network.params
            case BudgetKind.MACS:
                return macs_of_one(network)
            case BudgetKind.MEMORY:
                return memory_of(network_at(network, self.batch))

    def text(self, value: float) -> str:
        """An amount with its unit."""
        return format_amount(value, self.kind.unit)

    def check(self) -> str | None:
        """Raises `InfeasibleError` with the feasible range if no network of the space is within the
        budget. Returns a notice if every network is, else None."""
        least, most = self.costs.fastest_ms, self.costs.slowest_ms
        is_latency = self.kind is BudgetKind.LATENCY
        named = "budget" if is_latency else f"{self.name} budget"
        ends = ("fastest", "slowest") if is_latency else ("smallest", "largest")
        where = f"network: the space reaches from {self.text(least)} to {self.text(most)}"
        if self.limit < least:
            raise InfeasibleError(f"{named} {self.text(self.limit)} is below the {ends[0]} {where}")
        if self.limit > most:
            return f"{named} {self.text(self.limit)} is above the {ends[1]} {where}"
        return None


_PARSERS = {
    BudgetKind.LATENCY: parse_ms,
    BudgetKind.PARAMS: parse_count,
    BudgetKind.MACS: parse_count,
    BudgetKind.MEMORY: parse_bytes,
}


def check_together(budgets: Sequence[Budget]) -> None:
    """Raises `InfeasibleError` if no network of the space is within all budgets."""
    first, *others = budgets
    utility = np.zeros(first.costs.matrix.shape)
    limits = [(other.costs, other.limit) for other in others]
    derive(utility, first.costs, first.limit, others=limits)


def _share(text: str) -> float:
    try:
        share = float(text.strip()[:-1]) / 100
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"'{text}' must be a share of the space's range from 0% to 100%")
    return share


def size_costs(space: SearchSpace, kind: BudgetKind) -> CandidateLatency:
    """Parameters, or multiply-accumulates of one input, of every network of a space."""
    if kind == BudgetKind.MACS:
        return sum_over(lambda op: op.macs / op.batch, space.blocks, space.fixed)
    return sum_over(lambda op: op.params, space.blocks, space.fixed)


def macs_of_one(network: NetworkSpec) -> int:
    """Multiply-accumulates of a network for one input of its batch."""
    return network.macs // network.batch


def memory_of(network: NetworkSpec) -> int:
    """Peak bytes of a network's activations, for its whole batch."""
    return max(map(peak_bytes, network.ops))


def within_memory(space: SearchSpace, limit: float) -> SearchSpace:
    """The space without the candidates whose activations take more than `limit` bytes: a network's
    peak is that of its largest operator. The peak of a tree is that of its cell, which is fixed,
    since an identity edge has an input and an output, too. Raises `InfeasibleError` if every
    network needs one of them."""
    least = max(
        *(peak_bytes(op) for op in space.fixed),
        *(min(peak_bytes(op) if op else 0 for op in block) for block in space.blocks),
    )
    if limit < least:
        raise InfeasibleError(
            f"memory budget {format_bytes(limit)}: every network of the space takes at least "
            f"{format_bytes(least)} for its activations"
        )
    blocks = tuple(
        tuple(op for op in block if op is None or peak_bytes(op) <= limit) for block in space.blocks
    )
    return replace(space, blocks=blocks)
