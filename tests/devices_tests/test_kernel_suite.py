"""The kernel suite and the rules of fusion, on the real runtimes of this machine."""

from dataclasses import replace

import onnx
import pytest
from doubles import Memory

from devices.card import Measuring, load_card
from devices.connection import connect
from devices.device import Timing
from devices.kernel_suite import sampling, suite, traced
from devices.kernel_suite.fusion import timed_fusion, timed_operators, traced_fusion
from devices.kernel_suite.random_cnns import draw_networks, random_blocks, random_cnn
from devices.kernel_suite.rows import by_kernel
from devices.kernel_suite.suite import profile_kernels
from devices.measuring.tracing import TraceTimes
from devices.replay import ReplayDevice
from latency import LatencyTable, Measurement, fit
from latency.graphs.fusion import SUITE, USUAL
from latency.graphs.kernels import Kernel
from latency.graphs.network_graph import network_kernels
from latency.operators.spec import OpSpec
from latency.tables.measurement import Origin


@pytest.fixture(scope="module")
def cpu():
    return connect(load_card("cpu"))


@pytest.fixture(scope="module")
def fusion(cpu):
    return traced_fusion(cpu)


def test_the_rules_of_onnx_runtime_are_found(fusion):
    assert {"conv+relu", "conv+norm", "conv+add", "conv_add+relu"} <= fusion.pairs
    assert not {"conv+gelu", "conv+silu"} & fusion.pairs
    if fusion.blocked:  # a layout of its own it has where the vectors are wide enough
        assert {"conv", "max_pool"} <= fusion.blocked
        assert not {"softmax", "slice", "scale"} & (fusion.blocked | fusion.either)
        assert fusion.block in (8, 16)


def test_without_a_profiler_pairs_are_timed_together_and_apart(toy_table):
    """On a device whose ReLU is part of a convolution, whose h-swish is a kernel of its own."""
    rows = {}
    for op in timed_operators():
        ms = {"conv": 1.0, "conv_add": 1.2, "matmul": 2.0, "activation": 0.3}[op.kind]
        if op.kind != "activation" and op.activation not in ("none", "relu"):
            ms += 0.28
        rows[op] = Measurement(ms, 0.001, 100, ms)
    found = timed_fusion(ReplayDevice(replace(toy_table, rows=rows))).pairs
    timed = {f"{kind}+relu" for kind in ("conv", "conv_add", "matmul")}
    assert found == timed | {"conv+norm", "linear+norm", "linear+relu", "linear+relu6"}


def test_what_cannot_be_timed_either_is_as_usual(toy_table):
    assert timed_fusion(ReplayDevice(toy_table)) == USUAL


def test_the_rules_of_litert_are_found_by_timing():
    device = connect(load_card("cpu-litert"))
    assert traced_fusion(device) is None
    missing = {"conv+norm", "conv+relu6", "matmul+relu"}
    for _ in range(4):  # on a busy machine a fused pair may look like two kernels
        pairs = timed_fusion(device).pairs
        assert "conv+gelu" not in pairs
        missing -= pairs
        if not missing:
            break
    assert not missing


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_are_sound_and_the_same_for_a_seed(seed):
    content = random_cnn(seed)
    assert content == random_cnn(seed)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)


def test_the_kernels_are_those_that_the_runtime_executes(cpu, fusion):
    """Each node that ONNX Runtime names belongs to a kernel, and each kernel but changes of layout
    has its node."""
    for network in draw_networks(4, fusion):
        with cpu.open_session() as session:
            nodes = session.trace(network.workload, 1, 2)
        kernels = network.graph.kernels
        found = by_kernel(kernels, nodes)
        assert sum(found.values()) == pytest.approx(sum(nodes.values()))
        silent = [k.op.key for i, k in enumerate(kernels) if i not in found]
        assert len(silent) <= 0.05 * len(kernels), silent


def test_nodes_that_the_runtime_inserts_go_to_the_kernels_of_their_kind():
    conv, reorder = OpSpec("conv", 8, 8, 16, 16, 3), OpSpec("reorder", 8, 8, 16, 16)
    larger = OpSpec("reorder", 8, 8, 48, 48)
    kernels = [Kernel(reorder, ()), Kernel(conv, ("Conv_0", "Relu_1")), Kernel(larger, ())]
    nodes = {"ReorderInput": 1.0, "Relu_1_nchwc": 5.0, "made_up": 0.5, "ReorderOutput": 3.0}
    assert by_kernel(kernels, nodes) == {0: 1.0, 1: 5.5, 2: 3.0}


def test_a_small_suite_becomes_a_table_that_predicts_networks(cpu, monkeypatch, tmp_path):
    monkeypatch.setattr(traced, "_SESSIONS", 2)
    monkeypatch.setattr(traced, "_MOST_WAITS", 2)
    monkeypatch.setattr(traced, "_TIMES", TraceTimes(40.0, 20.0, (6, 40), 3))
    monkeypatch.setattr(sampling, "_FOLDS", 2)
    fitted = []

    def noted(table, **options):
        fitted.append(table)
        return fit(table, **options)

    monkeypatch.setattr(traced, "fit", noted)
    journal = Memory()
    table = profile_kernels(cpu, Measuring(), journal, {}, networks=9)
    assert table.validations[SUITE].networks == len(fitted) == 6  # those drawn evenly
    assert all(len(without) < len(table) for without in fitted)
    assert len(table) > 100
    assert {table[op].origin for op in table} == {Origin.INSIDE_NETWORKS}
    table.save(tmp_path / "kernels.csv")
    kept = LatencyTable.load(tmp_path / "kernels.csv")
    assert kept.fusion == table.fusion
    network = draw_networks(1, kept.fusion, first=50)[0].graph
    predicted = fit(kept, extrapolate=True).predict(network)
    assert predicted.low_ms < predicted.ms < predicted.high_ms
    assert {part.source for part in predicted.per_op} >= {"predicted"}
    others = [  # as networks of the same names that were drawn otherwise
        replace(sample, digest="another", timing=Timing((99.0,), 1)) for sample in journal.samples
    ]
    journal.samples = [*others, *journal.samples, *others]
    before = len(journal.samples)
    again = profile_kernels(cpu, Measuring(), journal, {}, networks=9)
    assert again.validations == table.validations
    assert len(journal.samples) == before
    assert {op: row.median_ms for op, row in again.rows.items()} == {
        op: row.median_ms for op, row in table.rows.items()
    }


def test_a_slow_device_is_waited_for_within_limits(monkeypatch):
    monkeypatch.setattr(traced, "_MOST_WAITS", 3)
    times = iter([10.0, 13.0, 12.0, 10.4, 14.0, 14.0, 14.0])

    class FakeSession:
        def sample(self, workload, sample_ms, expected_ms):
            return Timing((next(times),), 1)

    slept, reported = [], []
    gate = traced.IdleGate(None, slept.append, lambda: reported.append(len(slept)))
    assert [gate.wait(FakeSession()).ms[0] for _ in range(3)] == [10.0, 10.4, 14.0]
    assert len(slept) == 3
    assert reported == [0, 1, 2]


def test_where_networks_cannot_be_traced_kernels_are_measured_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "_EVEN_OF_A_FAMILY", 1)
    monkeypatch.setattr(suite, "_OF_A_FAMILY", 2)
    device = connect(load_card("cpu-litert"))
    quick = Measuring(
        sessions=1, max_sessions=1, min_samples=6, max_samples=6, max_network_samples=6
    )
    table = profile_kernels(device, quick, Memory(), {}, networks=8, held_out=3)
    assert {"conv", "max_pool", "linear"} <= {op.kind for op in table}
    assert {table[op].origin for op in table} == {Origin.SUITE_ALONE}
    assert table.validations[SUITE].networks == 3
    assert "each alone, and 6 networks of blocks" in table.measured[SUITE]
    table.save(tmp_path / "kernels.csv")
    network = random_blocks(50)
    graph = network_kernels(network, table.fusion)
    kept = LatencyTable.load(tmp_path / "kernels.csv")
    predicted = fit(kept, extrapolate=True).predict(graph)
    assert predicted.high_ms / predicted.ms - 1 >= kept.validations[SUITE].relative_ci95 - 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_all_kernels_of_a_suite_are_of_the_batch_of_the_card(seed, fusion):
    (network,) = draw_networks(1, fusion, seed, batch=8)
    assert {op.batch for op in network.graph.ops} == {8}
    assert {op.batch for op in network_kernels(random_blocks(seed, 8)).ops} == {8}


@pytest.mark.parametrize("seed", range(6))
def test_random_blocks_are_networks_the_same_for_a_seed(seed):
    network = random_blocks(seed)
    assert network == random_blocks(seed) != random_blocks(seed + 1)
    assert network_kernels(network).macs == network.macs
