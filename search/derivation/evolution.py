"""`Evolution`: evolutionary search in a trained supernet under budgets.

As in Once-for-all (Cai et al., ICLR 2020) and SPOS (Guo et al., ECCV 2020), a network's fitness is
its validation accuracy with the supernet's weights. Children alternate between mutations and
crossovers of the best networks, and the optimum of an additive model of all scores so far, with
noise. Each child is replaced by the network within the limits that keeps most of its choices, an
exactly solved knapsack problem.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency.candidates import CandidateLatency
from search.derivation.knapsack import MostProbable

Fitness = Callable[[Sequence[int]], tuple[float, float]]
"""From a network's choices to its validation accuracy and loss."""

_BAND = 0.04
"""A network counts as close to a limit down to this share below it."""
_PARENTS = 6
_MUTATED = 0.15
"""Probability that a block is mutated."""
_CROSSED = 0.5
"""Probability of a crossover."""


@dataclass(frozen=True)
class Scored:
    """A network, its validation accuracy and its loss with the supernet's weights."""

    choices: tuple[int, ...]
    accuracy: float
    loss: float

    @property
    def fitness(self) -> tuple[float, float]:
        """Sort key: accuracy, then the smaller loss."""
        return self.accuracy, -self.loss


class Evolution:
    """Finds the most accurate network within limits; scores are reused for later limits.

    `costs`: of each budget; networks should be close to the limit of the first. `utility` (blocks,
    candidates): log probabilities, whose most probable network is among the first parents, or
    zeros.
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
        """Choices of the network that `best` returns."""
        return self.best(limits).choices

    def best(self, limits: Sequence[float]) -> Scored:
        """The best network found up to 4 % below the first limit and within the others; if there
        is none, the closest below it, or else the fastest. Raises `InfeasibleError` if no network
        is within the other limits."""
        limits = (max(limits[0], self.costs[0].fastest_ms), *limits[1:])
        noise = self.generator.random((_PARENTS - 1, *self.utility.shape))
        for utility in (self.utility, *noise):
            self.score(self._closest(utility, limits))
        for number in range(self.children):
            utility = self._additive() if number % 2 else self._keeping(self._child(limits))
            self.score(self._closest(utility, limits))
        return self._parents(limits)[0]

    def best_known(self, limits: Sequence[float]) -> Scored | None:
        """The best network scored so far within the limits, if any."""
        return next(iter(self._parents(limits)), None)

    def front(self, limits: Sequence[float], others: Sequence[float] = ()) -> Iterator[Scored]:
        """The best network found for each of several limits of the first cost, in ascending order.
        Each limit's networks are parents of the next one's."""
        return (self.best((limit, *others)) for limit in sorted(limits))

    def score(self, choices: tuple[int, ...]) -> Scored:
        """Evaluate a network once."""
        if choices not in self.scored:
            self.scored[choices] = Scored(choices, *self.fitness(choices))
        return self.scored[choices]

    def _parents(self, limits: Sequence[float]) -> list[Scored]:
        """The best networks scored so far that are within the limits and close to the first."""
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

    def _keeping(self, choices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Utilities that count the choices kept; ties are broken at random."""
        utility = 0.1 * self.generator.random(self.utility.shape)
        utility[np.arange(len(choices)), choices] += 1
        return utility

    def _additive(self) -> NDArray[np.float64]:
        """Effects of the candidates (blocks, candidates) on accuracy minus loss: a ridge regression
        on all scores, plus noise of about its standard error."""
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

    def _closest(self, utility: NDArray[np.float64], limits: Sequence[float]) -> tuple[int, ...]:
        return MostProbable(utility, self.costs, _BAND)(limits)
