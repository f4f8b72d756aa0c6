"""`Evolution`: networks of a trained supernet under budgets, by mutation and crossover.

As in Once-for-all (Cai et al., ICLR 2020) and SPOS (Guo et al., ECCV 2020), a network's fitness is
its validation accuracy with the supernet's weights. Children are mutations and crossovers of the
best networks; every second one is what an additive model of all scores so far holds for the best,
a little disturbed. A child that is not within the limits becomes the network within them that
keeps the most of its choices, which is a knapsack solved exactly.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.candidates import CandidateLatency
from search.derivation.knapsack import MostProbable

Fitness = Callable[[Sequence[int]], tuple[float, float]]
"""Validation accuracy and loss of the network of these choices."""

_BAND = 0.04
"""How far below a limit a network of it may be, as a share of the limit."""
_PARENTS = 6
_MUTATED = 0.15
"""Probability that a block's candidate is drawn anew."""
_CROSSED = 0.5
"""Share of children that have two parents."""


@dataclass(frozen=True)
class Scored:
    """A network, its validation accuracy and its loss with the supernet's weights."""

    choices: tuple[int, ...]
    accuracy: float
    loss: float

    @property
    def fitness(self) -> tuple[float, float]:
        """More accurate first; of equally accurate ones, that of the smaller loss."""
        return self.accuracy, -self.loss


class Evolution:
    """A search for the most accurate network at each of several limits.

    `costs`: of each budget, the first one's the one to make use of. `utility` (blocks,
    candidates): log probabilities of a search, whose most probable networks are among the first
    parents; zeros where there was none. Whatever was scored is kept and serves later limits.
    """

    def __init__(
        self,
        utility: NDArray[np.float64],
        costs: Sequence[CandidateLatency],
        fitness: Fitness,
        generator: np.random.Generator,
        children: int = 24,
    ) -> None:
        self.utility, self.costs = utility, tuple(costs)
        self.fitness, self.generator, self.children = fitness, generator, children
        self.counts = self.costs[0].counts
        self.scored: dict[tuple[int, ...], Scored] = {}

    def __call__(self, limits: Sequence[float]) -> tuple[int, ...]:
        """Choices of the best network found within the limits; see `best`."""
        return self.best(limits).choices

    def best(self, limits: Sequence[float]) -> Scored:
        """The best network found between the first limit less a few percent and the limit itself
        and within the other limits; where none is there, the nearest below it; the fastest one
        where none is below. Raises `InfeasibleError` where no network is within the others."""
        limits = (max(limits[0], self.costs[0].fastest_ms), *limits[1:])
        for seed in (self.utility, *self._noise(_PARENTS - 1)):
            self.score(self._nearest(seed, limits))
        for number in range(self.children):
            bred = number % 2 == 0
            wish = self._wish(self._child(limits)) if bred else self._additive()
            self.score(self._nearest(wish, limits))
        return self._parents(limits)[0]

    def best_known(self, limits: Sequence[float]) -> Scored | None:
        """The best network for the limits among those scored so far; None where none is within."""
        return next(iter(self._parents(limits)), None)

    def front(self, limits: Sequence[float], others: Sequence[float] = ()) -> Iterator[Scored]:
        """The best network found at each of several limits of the first cost, one after the other.
        Each limit's networks are parents of the next one's."""
        return (self.best((limit, *others)) for limit in sorted(limits))

    def score(self, choices: tuple[int, ...]) -> Scored:
        """A network with its accuracy and its loss."""
        if choices not in self.scored:
            self.scored[choices] = Scored(choices, *self.fitness(choices))
        return self.scored[choices]

    def _parents(self, limits: Sequence[float]) -> list[Scored]:
        """The best networks scored that are near the limits; none where none is within."""
        known = np.array(list(self.scored))
        values = np.array([costs.predict(known) for costs in self.costs])
        within = (values <= np.array(limits)[:, None]).all(0)
        if not within.any():
            return []
        lowest = min((1 - _BAND) * limits[0], values[0][within].max())
        near = [tuple(row) for row in known[within & (values[0] >= lowest)].tolist()]
        ranked = sorted((self.scored[one] for one in near), key=lambda s: s.fitness, reverse=True)
        return ranked[:_PARENTS]

    def _child(self, limits: Sequence[float]) -> NDArray[np.int64]:
        parents = self._parents(limits)
        a, b = (np.array(parents[i].choices) for i in self.generator.integers(len(parents), size=2))
        if self.generator.random() < _CROSSED:
            a = np.where(self.generator.random(len(a)) < 0.5, a, b)
        drawn = self.generator.integers(0, self.counts)
        return np.where(self.generator.random(len(a)) < _MUTATED, drawn, a)

    def _wish(self, choices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Utilities of which the choices have the most; ties are broken at random."""
        wish = 0.1 * self.generator.random(self.utility.shape)
        wish[np.arange(len(choices)), choices] += 1
        return wish

    def _additive(self) -> NDArray[np.float64]:
        """Effects of the candidates (blocks, candidates) on accuracy less loss in what was
        scored, with noise of about their error."""
        known = np.array(list(self.scored))
        gains = np.array([one.accuracy - one.loss for one in self.scored.values()])
        taken = np.zeros((len(known), *self.utility.shape))
        np.put_along_axis(taken, known[:, :, None], 1.0, axis=2)
        design = taken.reshape(len(known), -1)
        design = design - design.mean(0)
        gram = design.T @ design + np.eye(design.shape[1])
        effects = np.linalg.solve(gram, design.T @ (gains - gains.mean()))
        rest = gains - gains.mean() - design @ effects
        noise = rest.std() * self.generator.normal(size=len(effects))
        return (effects + noise / np.sqrt(1 + design.var(0) * len(known))).reshape(
            self.utility.shape
        )

    def _noise(self, count: int) -> list[NDArray[np.float64]]:
        return list(self.generator.random((count, *self.utility.shape)))

    def _nearest(self, wish: NDArray[np.float64], limits: Sequence[float]) -> tuple[int, ...]:
        """The network of most utility near the limits, or else below them."""
        return MostProbable(wish, self.costs, _BAND)(limits)
