"""What a search is worth: the network found against random ones of the same latency."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from multiprocessing import get_context

import numpy as np
import torch
from figure import Figure
from unread import train

from devices.card import load_card
from devices.connection import connect
from devices.device import Workload
from devices.measuring.rounds import measure
from latency import CandidateLatency, LatencyTable, NetworkSpec, candidate_latency
from latency.stats import student_t
from search import spaces
from search.baselines import random_within
from search.budget import Budget
from search.data import Dataset, load_dataset
from search.derivation.knapsack import MostProbable
from search.searcher import SupernetTraining
from search.settings import MINI
from search.space import SearchSpace
from search.training.network_training import NetworkTraining
from search.training.optimizer import accuracy

_SEEDS, _RANDOM = 10, 3
_BAND = 0.02
_TRAIN_STEPS = (100, MINI.train_steps)
"""Trainings from scratch that are compared: one that ends while networks still differ in what they
have learned, and the usual one, after which nearly all images of digits are told by any of them."""


def worth() -> Iterator[Figure]:
    """`mini` on digits at a quarter of its range, by the shipped table of this machine: test
    accuracy of the network found less the mean of random ones, all trained alike, shortly and as
    usual; the latencies of all measured now, interleaved."""
    device = connect(load_card("cpu"))
    table = LatencyTable.load(device.setting.stem)
    space, data = spaces.load("mini"), load_dataset("digits")
    costs = candidate_latency(table, space.blocks, space.fixed)
    budget = Budget.parse("25%", "cpu").over(costs)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        runs = list(pool.map(partial(_one_seed, space, data, costs, budget), range(_SEEDS)))
    found, drawn = [network for _, network, _ in runs], [others for _, _, others in runs]
    gains = 100 * np.array([gains for gains, _, _ in runs])
    means = gains.mean(axis=0).tolist()
    halves = (gains.std(axis=0, ddof=1) * student_t(_SEEDS - 1) / _SEEDS**0.5).tolist()
    for steps, mean, half in zip(_TRAIN_STEPS, means, halves, strict=True):
        label = f"found less random, accuracy after {steps} steps, {_SEEDS} seeds"
        yield Figure(label, mean, least=0.0, unit="points")
        yield Figure("  half of its 95 % interval", half, unit="points")
    networks = dict.fromkeys([*found, *chain.from_iterable(drawn)])
    workloads = [Workload.of_network(network) for network in networks]
    measured = measure(device, workloads, load_card("cpu").measuring)
    ratios = [
        measured[network.name].median_ms / np.mean([measured[o.name].median_ms for o in others])
        for network, others in zip(found, drawn, strict=True)
    ]
    yield Figure("  measured latency, found / random", float(np.mean(ratios)))


def _one_seed(
    space: SearchSpace, data: Dataset, costs: CandidateLatency, budget: Budget, seed: int
) -> tuple[list[float], NetworkSpec, list[NetworkSpec]]:
    """By how much the network found is more accurate than the mean of random ones, for each length
    of training; all of them."""
    torch.set_num_threads(1)
    choices = _search(space, data, budget, seed)
    network = space.network(choices)
    most = float(costs.predict(choices)[0])
    generator = np.random.default_rng(seed)
    drawn = random_within(space, costs, most, _RANDOM, generator, _BAND)
    others = [space.network(row) for row in drawn.tolist()]
    gains = []
    for steps in _TRAIN_STEPS:
        trained = partial(_trained, data=data, steps=steps, seed=seed)
        gains.append(trained(network) - float(np.mean([trained(other) for other in others])))
    return gains, network, others


def _search(space: SearchSpace, data: Dataset, budget: Budget, seed: int) -> tuple[int, ...]:
    training = SupernetTraining(space, data, [budget], MINI, seed)
    train(training)
    utility = training.supernet.log_probabilities.detach().double().numpy()
    return MostProbable(utility, [budget.costs])([budget.limit])


def _trained(network: NetworkSpec, data: Dataset, steps: int, seed: int) -> float:
    """Test accuracy of a network trained from scratch."""
    training = NetworkTraining(network, data, replace(MINI, train_steps=steps), seed)
    train(training)
    return accuracy(training.module, data.test, network.input_shape[0])
