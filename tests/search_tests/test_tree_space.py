"""The tree-structured space: its networks, its supernet, a search in it, and what is exported."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from memory import saved_bytes
from planted import proxyless_g
from torch.nn import functional

from devices.export.onnx_model import onnx_model
from latency import (
    LatencyTable,
    Measurement,
    Setting,
    UsageError,
    candidate_latency,
    zoo,
)
from latency.candidates import CandidateLatency
from latency.expected import ExpectedLatency
from latency.modules import NetworkModule
from latency.operators.network import peak_bytes
from latency.operators.trees import Tree, edge_operator
from latency.zoo.pyramid_nets import tree_network
from search import spaces
from search.budget import Budget, memory_of, within_memory
from search.commands.profile_command import main as lat_profile
from search.derivation.knapsack import derive
from search.settings import SearchSettings
from search.space import Cell
from search.spaces import cifar_tree
from search.strategies.hardware_loss import HardwareTerm
from search.supernet.supernet import SuperNet
from search.training.optimizer import Cosines, WeightOptimizer
from search.training.path_dropout import path_dropout


@pytest.fixture
def space():
    """A tree space of three blocks on 16x16 images."""
    return cifar_tree.build(resolution=16, width=0.2, depth=1)


@pytest.fixture
def costs(space):
    rows = {op: Measurement(1e-3 + op.macs / 1e8, 1e-5, 10, 1e-3) for op in space.operators}
    table = LatencyTable(Setting("toy", "a machine", runtime="none 0"), rows)
    return candidate_latency(table, space.blocks, space.fixed)


@pytest.fixture
def supernet(space):
    torch.manual_seed(0)
    return SuperNet(space)


@pytest.fixture
def path(space, generator):
    return space.random_choices(1, generator)[0].tolist()


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(16, 3, 16, 16), torch.randint(0, 10, (16,))


def with_weights_of(supernet: SuperNet, path: list[int]) -> NetworkModule:
    """The network of a path, with the supernet's weights."""
    space = supernet.space
    module = NetworkModule(space.network(path).ops)
    *stem_and_cells, norm, pool, linear = module
    for ours, theirs in zip(
        [stem_and_cells[0], norm, pool, linear], [*supernet.stem, *supernet.head], strict=True
    ):
        ours.load_state_dict(theirs.state_dict())
    chosen = [block[i] for block, i in zip(supernet.blocks, path, strict=True)]
    for ours, theirs, (cell, edges) in zip(
        stem_and_cells[1:], supernet.cells, space.by_cell(chosen), strict=True
    ):
        weights = dict(theirs.state_dict())
        for name, edge in zip(cell.edges, edges, strict=True):
            for key, value in edge.state_dict().items():
                weights[key.replace("layers.", f"layers.{name}_")] = value
        ours.load_state_dict(weights)
    return module


def test_the_published_network_is_one_of_the_space():
    space = spaces.load("proxyless-cifar")
    published = zoo.load("proxyless_cifar")
    choices = []
    for op, (cell, blocks) in zip(published.ops[1:-3], space.by_cell(space.blocks), strict=True):
        bare, *_ = op.parts
        assert bare == cell.op
        edges = Tree.parse(op.tree).edges()
        choices += [cifar_tree.CANDIDATES.index(edges[name]) for name in cell.edges]
        assert len(blocks) == 12
    assert space.network(choices).ops == published.ops


def test_the_space_has_seven_candidates_on_each_of_twelve_edges_a_block():
    space = spaces.load("proxyless-cifar")
    assert set(space.counts) == {7}
    assert len(space.blocks) == 12 * 54
    assert space.tag == "proxyless-cifar@32"
    assert cifar_tree.build(width=0.5, depth=2).tag == "proxyless-cifar-w0.5-d2@32"
    assert len(space.network(space.largest).name) < 64


def test_a_network_costs_what_its_edges_and_the_operators_around_them_do(space, costs, generator):
    for choices in space.random_choices(5, generator):
        network = space.network(choices)
        assert network.macs == sum(op.macs for op in network.parts)
        assert set(network.parts) <= set(space.operators)
        expected = costs.predict(choices)[0]
        ms = sum(1e-3 + op.macs / 1e8 for op in network.parts)
        assert ms == pytest.approx(expected)


@pytest.mark.parametrize("expansion", [0.25, 1, 2])
@pytest.mark.parametrize("tree", [cifar_tree.TREE, "(i(iiii))", "(i(i(i(ii)i)i))"])
def test_a_memory_budget_holds_for_the_grown_trees(space, generator, expansion, tree):
    cell = Cell(replace(space.cells[0].op, expansion=expansion, tree=tree), ())
    cell = replace(cell, edges=tuple(Tree.parse(tree).edges()))
    candidates = tuple(edge_operator(cell.op, code) for code in cifar_tree.CANDIDATES)
    space = replace(space, cells=(cell,), blocks=(candidates,) * len(cell.edges), head=())
    networks = [space.network(row) for row in space.random_choices(50, generator).tolist()]
    networks += [space.network([i] * len(space.blocks)) for i in range(len(candidates))]
    limit = max(map(memory_of, networks))
    assert limit > max(peak_bytes(op) for op in candidates if op is not None)
    assert within_memory(space, limit) == space
    with pytest.raises(UsageError, match="every network of the space takes at least"):
        within_memory(space, limit - 1)


def test_a_path_computes_what_the_network_of_its_choices_does(supernet, path, batch):
    network = with_weights_of(supernet, path)
    torch.testing.assert_close(network(batch[0]), supernet(batch[0], path))


def test_the_exported_network_computes_what_the_path_does(supernet, space, path, batch):
    network = with_weights_of(supernet, path).eval()
    supernet.eval()
    with torch.no_grad():
        expected = supernet(batch[0][:1], path).numpy()
    session = onnxruntime.InferenceSession(
        onnx_model(space.network(path).ops, network.folded), providers=["CPUExecutionProvider"]
    )
    (output,) = session.run(None, {"input": batch[0][:1].numpy()})
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_a_gated_path_computes_what_the_path_does(supernet, space, path, batch):
    sampled = torch.arange(7).expand(len(space.blocks), 7)
    gates = torch.zeros(sampled.shape, requires_grad=True)
    scores = supernet.forward_gated(batch[0], gates, sampled, torch.tensor(path))
    torch.testing.assert_close(scores, supernet(batch[0], path))
    (gradient,) = torch.autograd.grad(functional.cross_entropy(scores, batch[1]), gates)
    assert (gradient.abs().sum(1) > 0).all()


def test_a_weight_step_trains_the_sampled_edges_alone(supernet, path, batch):
    functional.cross_entropy(supernet(batch[0], path), batch[1]).backward()
    for block, choice in zip(supernet.blocks, path, strict=True):
        for position, candidate in enumerate(block):
            graded = [value.grad is not None for value in candidate.parameters()]
            assert all(graded) if position == choice else not any(graded)
    assert all(value.grad is not None for value in supernet.cells.parameters())


def test_a_step_saves_what_training_the_network_saves(supernet, space, path, batch):
    network = NetworkModule(space.network(path).ops)
    alone = saved_bytes(lambda: network(batch[0]), network)
    assert saved_bytes(lambda: supernet(batch[0], path), supernet) <= 1.02 * alone
    sampled = torch.tensor([[choice, (choice + 1) % 7] for choice in path])
    gates = torch.zeros(sampled.shape, requires_grad=True)
    active = torch.zeros(len(path), dtype=torch.int64)
    gated = saved_bytes(lambda: supernet.forward_gated(batch[0], gates, sampled, active), supernet)
    assert gated <= 1.3 * alone


def coloured(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose class shows in their colour."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator)
    colours = torch.randn(10, 3, 1, 1, generator=torch.Generator().manual_seed(9))
    return colours[labels] + 0.1 * torch.randn(count, 3, 16, 16, generator=generator), labels


def expected_ms(supernet: SuperNet, costs: CandidateLatency) -> float:
    with torch.no_grad():
        return float(ExpectedLatency(costs)(supernet.probabilities.double()))


def test_a_search_lowers_the_expected_latency_to_the_budget(supernet, space, costs, generator):
    budget_ms = (costs.fastest_ms + costs.slowest_ms) / 3
    optimizer = WeightOptimizer(supernet.weights(), SearchSettings(), Cosines(((0.05, 6),)))
    hardware = HardwareTerm([Budget("toy", budget_ms, costs)])
    strategy = proxyless_g(supernet, hardware, "two", 0.1)
    before = expected_ms(supernet, costs)
    for step in range(6):
        images, labels = coloured(32, seed=step)
        choices = space.random_choices(1, generator)[0].tolist()
        loss = optimizer.step(step, partial(supernet, path=choices), images, labels)
        assert np.isfinite(loss)
        strategy.step(images, labels, generator)
    utility = supernet.log_probabilities.detach().double().numpy()
    choices = derive(utility, costs, budget_ms)
    assert costs.predict(choices)[0] <= budget_ms
    assert expected_ms(supernet, costs) < before
    assert space.network(choices).ops[-1].out_channels == 10


def test_a_network_of_published_trees_trains_with_path_dropout():
    trees = [op.tree for op in zoo.load("proxyless_cifar").ops if op.tree][:6]
    network = tree_network("narrow", 24, " ".join(trees), resolution=16)
    torch.manual_seed(0)
    module = NetworkModule(network.ops)
    optimizer = WeightOptimizer(module.parameters(), SearchSettings(), Cosines(((0.05, 20),)))
    losses = []
    for step in range(20):
        images, labels = coloured(32, seed=step)
        with path_dropout(module, 0.05, torch.Generator().manual_seed(step)):
            losses.append(optimizer.step(step, module, images, labels))
    assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])


def test_its_operators_are_profiled_and_the_table_predicts_its_networks(
    invoke, quick_cpu, tmp_path
):
    words = ["--device", quick_cpu, "--space", "mini-tree", "--width", "0.75", "--resolution", "16"]
    code, out, err = invoke(lat_profile, *words, "--out", tmp_path / "o", "--json")
    assert code == 0, err
    answer = json.loads(out)
    space = spaces.load("mini-tree", width=0.75, resolution=16)
    assert answer["failed"] == {}
    assert answer["operators"] == len(space.operators)
    table = LatencyTable.load(answer["table"])
    network = space.network(space.largest)
    prediction = table.predict(network)
    assert prediction.ms == pytest.approx(sum(part.ms for part in prediction.per_op))
    assert {part.op for part in prediction.per_op} == set(network.parts)
