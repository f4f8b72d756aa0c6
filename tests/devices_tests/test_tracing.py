"""Tracing: operators inside networks, by the runtime's own profiler."""

import glob
import os
import sys
import tempfile
from dataclasses import replace
from statistics import mean, median
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import ShakyDevice, trace_layers

from devices.agent.lite_rt import LiteRt, LiteRtProfiler
from devices.agent.onnx_runtime import traced_nodes
from devices.agent.timing import UnableError
from devices.card import DeviceCard, Measuring
from devices.connection import connect
from devices.device import Timing, Workload
from devices.measuring.tracing import trace_ops
from devices.profiling import profile
from devices.replay import ReplayDevice
from devices.transports.channel import AgentChannel
from latency import LatencyTable, NetworkSpec, OpSpec
from latency.errors import ConnectionLostError, DeviceError, WorkloadError

pytestmark = pytest.mark.identity
SMALL = OpSpec("conv", 28, 28, 16, 16, 3, activation="relu6")
LARGE = OpSpec("conv", 28, 28, 16, 160, 3, activation="relu6")
LONG = NetworkSpec.of("long", (SMALL, SMALL, LARGE))

RUNTIMES = {
    "onnxruntime": {"runtime": "onnxruntime"},
    "onnxruntime as exported": {"runtime": "onnxruntime", "graph_optimization": "disabled"},
    "litert": {"runtime": "litert"},
    "litert int8": {"runtime": "litert", "precision": "int8"},
    "torch": {"runtime": "torch"},
}


@pytest.fixture(params=RUNTIMES)
def device(request):
    device = connect(DeviceCard(name="cpu", **RUNTIMES[request.param]))
    yield device
    device.close()


@pytest.fixture
def network(toy_space):
    return toy_space.network(toy_space.largest)


@pytest.fixture
def varied():
    """Layers of every kind, with activations that a runtime has no node of its own for."""
    return NetworkSpec.of(
        "varied",
        (
            OpSpec("conv", 16, 16, 3, 8, 3, 2, activation="silu"),
            OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "h_swish", 0.25),
            OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "sigmoid", 0.5),
            OpSpec("pool", 8, 8, 8, 8, 8),
            OpSpec("linear", 1, 1, 8, 10, activation="silu"),
        ),
    )


class TracedDevice(ReplayDevice):
    """Has a profiler that adds `ADDED_MS` to every node; an operator is one node. Or its trace
    is `nodes`, and runs without it take `run_ms`; or it fails with `error`."""

    ADDED_MS = 0.05

    def __init__(self, table, error=None, nodes=None, run_ms=None, **options):
        super().__init__(table, **options)
        self._error, self._nodes, self._run_ms = error, nodes, run_ms

    def open_session(self):
        session = super().open_session()
        session.traces, session.trace = True, self._trace
        if self._run_ms:
            session.run = lambda handle, warmup, runs: Timing((self._run_ms,) * runs, runs)
        return session

    def _trace(self, workload, warmup, runs):
        if self._error:
            raise self._error
        return self._nodes or {
            f"{position}.{op.layers[0].name}_fused": self._factor * self._table[op].median_ms
            + self.ADDED_MS
            for position, op in enumerate(workload.ops)
        }


def profiled(device, space, count=6, **options) -> LatencyTable:
    choices = space.random_choices(count + 2, np.random.default_rng(0))
    held_out, calibration = (list(map(space.network, part)) for part in (choices[:2], choices[2:]))
    rule = Measuring(sessions=1, max_sessions=1, min_samples=6, max_samples=6)
    ops = space.operators
    return profile([device], ops, calibration, held_out, "toy@16", rule, [], {}, **options)


def test_every_operator_is_in_the_trace_of_a_network(device, network, varied):
    for one in (network, varied):
        layers = trace_layers(device, one)
        assert [place for place, _ in layers] == sorted(place for place, _ in layers)
        assert {place for place, _ in layers} == set(range(len(one.ops)))
        for place, name in layers:
            assert name in [layer.name for layer in one.ops[place].layers]
        assert min(layers.values()) > 0


def test_the_layers_add_up_to_the_whole(device, network, varied):
    for one in (network, varied):
        assert sum(trace_layers(device, one, 1.25).values()) == pytest.approx(1.25)


def test_ten_times_the_work_costs_more(device):
    """In most of three traces: a busy machine may disturb one of them."""
    traces = [trace_layers(device, LONG) for _ in range(3)]
    assert median(trace[2, "conv"] / trace[1, "conv"] for trace in traces) > 2
    traced = trace_ops(device, [LONG], {"long": 3.0})
    assert traced[LARGE] > 2 * traced[SMALL]
    assert set(traced) == {SMALL, LARGE}


def test_the_trace_is_about_what_the_network_takes(device):
    """In two of five pairs at least: a busy machine may disturb one side of a pair. Some profilers
    tell means, which it disturbs more than medians."""
    workload = Workload.of_network(LONG)
    agree = []
    with device.open_session() as session:
        handle = session.load(workload)
        for _ in range(5):
            traced = sum(session.trace(workload, 20, 50).values())
            runs_ms = session.run(handle, 20, 50).ms
            agree.append(median(runs_ms) / 3 < traced < 3 * mean(runs_ms))
    assert sum(agree) >= 2


def test_a_trace_leaves_nothing_on_the_disk(device, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert trace_layers(device, LONG)
    assert glob.glob(str(tmp_path / "lat-trace-*")) == []


def test_nodes_without_a_name_of_ours_belong_to_the_layer_before_them(toy_table, network):
    first, second = (op.layers[0].name for op in network.ops[:2])
    nodes = {
        "ReorderInput": 1.0,
        f"0.{first}.relu6_nchwc": 2.0,
        f"1.{second}": 4.0,
        "99.project": 8.0,
        "ReorderOutput": 16.0,
    }
    found = trace_layers(TracedDevice(toy_table, nodes=nodes, run_ms=31.0), network)
    assert found == {(0, first): 3.0, (1, second): 28.0}
    nodes = {f"0.{first}": 1.0, "output_nchwc": 2.0, "ReorderOutput": 4.0}
    found = trace_layers(TracedDevice(toy_table, nodes=nodes, run_ms=7.0), network)
    last = len(network.ops) - 1, network.ops[-1].layers[-1].name
    assert found == {(0, first): 1.0, last: 6.0}
    device = TracedDevice(toy_table, nodes={"ReorderInput": 1.0}, run_ms=1.0)
    with pytest.raises(DeviceError, match="no node of the traced model is one of its layers"):
        trace_layers(device, network)


def test_what_a_profiler_adds_to_every_node_is_taken_off(toy_table, network):
    names = [op.layers[0].name for op in network.ops[:3]]
    nodes = {f"{i}.{name}": 3.0 + 2 * i for i, name in enumerate(names)}
    device = TracedDevice(toy_table, nodes=nodes, run_ms=12.0)
    assert list(trace_layers(device, network).values()) == pytest.approx([2.0, 4.0, 6.0])
    assert list(trace_layers(device, network, 6.0).values()) == pytest.approx([1.0, 2.0, 3.0])
    slower = TracedDevice(toy_table, nodes={**nodes, "24.pool": 0.1}, run_ms=7.5)
    found = list(trace_layers(slower, network).values())
    assert found[1] / found[0] == pytest.approx(4.9 / 2.9)
    much = TracedDevice(toy_table, nodes=nodes, run_ms=1.0)
    assert min(trace_layers(much, network).values()) > 0
    assert sum(trace_layers(much, network).values()) == pytest.approx(1.0)


def test_nodes_that_are_far_too_little_for_the_model_are_no_profile(toy_table, network):
    nodes = {f"{i}.{op.layers[0].name}": 0.0005 for i, op in enumerate(network.ops)}
    whole_ms = 20 * sum(nodes.values())
    device = TracedDevice(toy_table, nodes=nodes, run_ms=0.99 * whole_ms)
    assert sum(trace_layers(device, network).values()) == pytest.approx(0.99 * whole_ms)
    device = TracedDevice(toy_table, nodes=nodes, run_ms=1.01 * whole_ms)
    with pytest.raises(DeviceError, match=rf"{len(nodes)} nodes of a traced model add up to"):
        trace_layers(device, network)


def test_an_operator_takes_its_median_over_networks_scaled_to_each(toy_table, toy_space):
    device = TracedDevice(toy_table)
    networks = [toy_space.network([0] * 4), toy_space.network(toy_space.largest)]
    networks = [replace(n, name=str(i)) for i, n in enumerate(networks)]
    sums = [sum(toy_table[op].median_ms for op in n.ops) for n in networks]
    told = []
    whole_ms = {"0": 3 * sums[0], "1": 5 * sums[1]}
    traced = trace_ops(device, networks, whole_ms, on_progress=told.append)
    assert [(progress.done, progress.total) for progress in told] == [(0, 2), (1, 2), (2, 2)]
    only_first = next(op for op in networks[0].ops if op not in networks[1].ops)
    stem = networks[0].ops[0]
    assert traced[only_first] == pytest.approx(3 * toy_table[only_first].median_ms, rel=0.02)
    assert traced[stem] == pytest.approx(4 * toy_table[stem].median_ms, rel=0.02)
    assert set(trace_ops(device, networks, {"1": 1.0})) == set(networks[1].ops)


def test_devices_without_a_profiler_give_nothing(toy_table, network):
    replayed = ReplayDevice(toy_table)
    assert trace_layers(replayed, network, 1.0) == {}
    assert trace_ops(replayed, [network], {network.name: 1.0}) == {}
    with connect(DeviceCard(name="cpu")).open_session() as session:
        session.traces = False
        assert session.trace(Workload.of_network(network), 1, 2) == {}


def test_an_old_litert_has_no_profiler(tmp_path):
    litert = LiteRt(1)
    assert litert.traces
    module = sys.modules[litert.interpreter.__module__]
    assert LiteRtProfiler.of("2.2.0", module) is None
    empty = SimpleNamespace(__file__=str(tmp_path / "interpreter.py"))
    assert LiteRtProfiler.of("3.0.1", empty) is None


def test_a_profiler_of_litert_that_fails_says_where(tmp_path):
    profiler = LiteRt(1).profiler
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    for name in ("absent", "broken"):
        with pytest.raises(UnableError, match="LiteRtCreateModelFromFile says"):
            profiler.profile(str(tmp_path / f"{name}.tflite"), 1, 1, 1)


@pytest.mark.parametrize(
    "answer", [{}, {"ns": []}, {"ns": {}}, {"ns": {"0.conv": "x"}}, {"ns": {"0.conv": -1}}]
)
def test_a_trace_that_is_none_is_refused(answer, network):
    device = connect(DeviceCard(name="cpu"))
    with device.open_session() as session:
        session._channel.ask = lambda request: answer
        with pytest.raises(DeviceError):
            session.trace(Workload.of_network(network), 1, 1)
    device.close()


def test_onnx_runtimes_profile_is_read_run_by_run():
    def event(name, microseconds):
        return {"cat": "Node", "name": f"{name}_kernel_time", "dur": microseconds}

    runs = [(90, 9), (10, 3), (14, 3), (12, 4), (11, 90)]
    events = [{"cat": "Session", "name": "model_run", "dur": 1}]
    for conv, pool in runs:
        events += [event("0.conv", conv), event("1.pool", pool), event("0.conv", 1)]
        events += [{"cat": "Node", "name": "0.conv_fence_before", "dur": 7}]
    found = traced_nodes(events, 1, 4)
    assert list(found) == ["0.conv", "1.pool"]
    assert found["0.conv"] == pytest.approx(1e3 * (11.5 + 1 + 2 * 0.5))
    assert found["1.pool"] == pytest.approx(1e3 * (3.5 + 0.5))
    with pytest.raises(ValueError, match="left 15 nodes"):
        traced_nodes(events, 1, 3)


def test_a_profile_has_what_operators_take_inside_networks(toy_space, tmp_path):
    device = connect(DeviceCard(name="cpu"))
    seen = []
    table = profiled(device, toy_space, on_progress=lambda progress: seen.append(progress.doing))
    device.close()
    traced = {op for op, row in table.rows.items() if row.traced_ms is not None}
    assert seen[-1] == "tracing"
    assert {op for op in table if op.kind in ("conv", "linear", "pool")} <= traced
    said = table.traced["toy@16"]
    assert said.startswith(f"{len(traced)} of {len(table)} operators in 6 networks; ")
    table.save(tmp_path / "t.csv")
    back = LatencyTable.load(tmp_path / "t.csv")
    assert back.traced["toy@16"] == said
    for op in table:
        assert back[op].traced_ms == pytest.approx(table[op].traced_ms, abs=1e-7)


def test_traced_operators_add_up_to_the_measured_networks(toy_table, toy_space):
    table = profiled(TracedDevice(toy_table, factor=0.9), toy_space)
    for op, row in table.rows.items():
        if row.traced_ms is not None:
            assert row.traced_ms == pytest.approx(0.9 * toy_table[op].median_ms, rel=0.05)


LOST = "3 processes in a row were lost while running it: "


@pytest.mark.parametrize(
    ("error", "before"),
    [
        (ConnectionLostError("the measuring process is gone"), LOST),
        (WorkloadError("no\nmemory"), ""),
    ],
)
def test_a_failing_trace_does_not_fail_the_profile(toy_table, toy_space, error, before, tmp_path):
    table = profiled(TracedDevice(toy_table, error), toy_space)
    assert {row.traced_ms for row in table.rows.values()} == {None}
    assert table.validations["toy@16"].networks == 2
    assert table.traced["toy@16"] == f"failed: {before}{error}"
    table.save(tmp_path / "t.csv")
    said = LatencyTable.load(tmp_path / "t.csv").traced["toy@16"]
    assert said == f"failed: {before}" + " ".join(str(error).split())


def test_a_killed_trace_does_not_fail_the_profile(toy_space, monkeypatch):
    device = connect(DeviceCard(name="cpu"))
    ask = AgentChannel.ask

    def ask_or_die(channel, request):
        if request["do"] == "trace":
            os.kill(channel._pipe._process.pid, 9)
        return ask(channel, request)

    monkeypatch.setattr(AgentChannel, "ask", ask_or_die)
    table = profiled(device, toy_space, count=2)
    device.close()
    assert {row.traced_ms for row in table.rows.values()} == {None}
    said = table.traced["toy@16"]
    assert said.startswith(f"failed: {LOST}this machine: the measuring process is gone")


def test_a_trace_whose_process_is_killed_is_made_again(network, monkeypatch):
    device = connect(DeviceCard(name="cpu"))
    ask, traces = AgentChannel.ask, []

    def ask_or_die_once(channel, request):
        if request["do"] == "trace":
            traces.append(request)
            if len(traces) == 1:
                os.kill(channel._pipe._process.pid, 9)
        return ask(channel, request)

    monkeypatch.setattr(AgentChannel, "ask", ask_or_die_once)
    assert {place for place, _ in trace_layers(device, network)} == set(range(len(network.ops)))
    assert len(traces) == 2
    device.close()


def test_without_a_profiler_a_profile_says_nothing_of_it(toy_table, toy_space):
    for device in (ReplayDevice(toy_table), ShakyDevice(toy_table)):
        table = profiled(device, toy_space)
        assert {row.traced_ms for row in table.rows.values()} == {None}
        assert not table.traced


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_tells_what_each_layer_takes(network):
    small = OpSpec("conv", 56, 56, 64, 64, 3, activation="relu6", batch=32)
    large = OpSpec("conv", 56, 56, 64, 640, 3, activation="relu6", batch=32)
    device = connect(DeviceCard(name="gpu", runtime="torch", provider="cuda", batch=32))
    layers = trace_layers(device, NetworkSpec.of("long", (small, small, large)))
    assert layers[2, "conv"] > 2 * layers[1, "conv"]
    assert {place for place, _ in trace_layers(device, network)} == set(range(len(network.ops)))
    assert sum(trace_layers(device, network, 1.25).values()) == pytest.approx(1.25)
    device.close()
