"""A problem whose optimum is known: every candidate has a utility and a latency of its own.

A supernet of it is fed noise; each candidate adds its utility to what passes. The class scores are
such that the loss falls, and the accuracy rises, with the sum of utilities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latency.candidates import CandidateLatency
from search.budget import Budget
from search.derivation.knapsack import derive
from search.settings import SearchSettings
from search.strategies import make_strategy
from search.strategies.hardware_loss import HardwareTerm
from search.strategies.proxyless_g import ProxylessG
from search.supernet.supernet import SuperNet

_IMAGES = 64


@dataclass(frozen=True)
class PlantedSpace:
    """The part of a search space that a strategy sees."""

    counts: tuple[int, ...]

    def by_cell(self, values: Sequence[Any]) -> Iterator[Any]:
        """A chain has no cells."""
        return iter(())


class _Adds(nn.Module):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        return x + self.amount


class _Head(nn.Module):
    def __init__(self, centre: float) -> None:
        super().__init__()
        self.centre = centre

    def forward(self, x: Tensor) -> Tensor:
        margin = x - self.centre
        return torch.stack([margin, torch.zeros_like(margin)], 1)


class PlantedSupernet(SuperNet):
    """A supernet whose candidates are numbers."""

    def __init__(self, utility: NDArray[np.float64], centre: float) -> None:
        nn.Module.__init__(self)
        self.space = PlantedSpace((utility.shape[1],) * len(utility))
        self.stem, self.cells = nn.Sequential(), nn.ModuleList()
        self.head = nn.Sequential(_Head(centre))
        self.blocks = nn.ModuleList(nn.ModuleList(_Adds(u) for u in row) for row in utility)
        self.alpha = nn.Parameter(torch.zeros(utility.shape))
        self.register_buffer("mask", torch.ones(utility.shape, dtype=torch.bool))


@dataclass(frozen=True)
class PlantedProblem:
    """Utilities (blocks, candidates) and latencies, which go with each other but for noise, and a
    budget half way."""

    utility: NDArray[np.float64]
    budget: Budget

    @classmethod
    def random(cls, seed: int, blocks: int = 12, candidates: int = 6) -> "PlantedProblem":
        generator = np.random.default_rng(seed)
        ms = generator.uniform(0.1, 1.0, (blocks, candidates))
        utility = 0.25 * np.sqrt(ms) + generator.normal(0, 0.03, ms.shape)
        costs = CandidateLatency(0.5, ms, np.full(blocks, candidates))
        limit = (costs.fastest_ms + costs.slowest_ms) / 2
        return cls(utility, Budget("planted", limit, costs))

    def total(self, choices: tuple[int, ...]) -> float:
        """Sum of utilities of a network."""
        return float(self.utility[np.arange(len(choices)), choices].sum())

    @property
    def optimum(self) -> float:
        """The largest sum of utilities within the budget."""
        return self.total(derive(self.utility, self.budget.costs, self.budget.limit))

    def search(self, settings: SearchSettings, seed: int) -> tuple[int, ...]:
        """What a strategy finds: derived from its architecture parameters, within the budget."""
        supernet = PlantedSupernet(self.utility, self.optimum)
        strategy = make_strategy(supernet, HardwareTerm([self.budget]), settings)
        assert strategy is not None
        generator = np.random.default_rng(seed)
        labels = torch.zeros(_IMAGES, dtype=torch.long)
        for _ in range(settings.search_steps):
            images = torch.from_numpy(generator.normal(0, 0.5, _IMAGES))
            strategy.step(images, labels, generator)
        found = supernet.log_probabilities.detach().double().numpy()
        return derive(found, self.budget.costs, self.budget.limit)


def proxyless_g(
    supernet: SuperNet, hardware: HardwareTerm, binarisation: str, learning_rate: float = 1e-3
) -> ProxylessG:
    """The strategy with a constant learning rate."""
    settings = SearchSettings(
        binarisation=binarisation, arch_schedule="constant", arch_learning_rate=learning_rate
    )
    return ProxylessG(supernet, hardware, settings)
