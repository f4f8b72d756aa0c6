"""What the agent executes with PyTorch computes what the searched module computes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from backends import run_agent
from operators import trained_looking

from devices.agent.torch_eager import Torch
from devices.agent_device import hello
from devices.card import DeviceCard
from devices.connection import connect
from devices.device import Workload
from devices.export.onnx_model import random_weights
from devices.runtimes.torch_eager import TorchEager
from latency import OpSpec, SpecError

pytestmark = pytest.mark.identity
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(autouse=True)
def torch_settings_are_restored():
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark


def test_a_whole_network_agrees(toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module = trained_looking(*network.ops)
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = module(x).numpy()
    card = DeviceCard(name="x", runtime="torch")
    output = run_agent(module, {"input": x}, card)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        ([OpSpec("conv", 8, 8, 4, 4), OpSpec("scale", 8, 8, 4, 4)], "scale stands alone"),
        ([OpSpec("reorder", 8, 8, 4, 4)], "no reordering"),
    ],
)
def test_what_torch_does_not_execute_is_refused_in_words(ops, said):
    with pytest.raises(SpecError, match=said):
        TorchEager(DeviceCard(name="x", runtime="torch")).build(ops, random_weights(), "n")


def test_the_model_file_is_read_without_unpickling(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, network=np.array([{"not": "bytes"}], object))
    card = DeviceCard(name="x", runtime="torch")
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Torch(**hello(card)).network(str(path))


def test_the_card_says_how_models_are_launched():
    cpu = TorchEager(DeviceCard(name="x", runtime="torch")).options
    gpu = TorchEager(DeviceCard(name="x", runtime="torch", provider="cuda")).options
    assert cpu == "provider=cpu launch=eager layout=channels-last malloc=kept"
    assert gpu == "provider=cuda launch=cuda-graph layout=channels-last malloc=kept"


def test_without_a_gpu_the_gpu_card_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    card = DeviceCard(name="gpu", runtime="torch", provider="cuda", batch=8)
    with pytest.raises(Exception, match="no CUDA device"), connect(card).open_session():
        pass


_LARGE = OpSpec("mbconv", 56, 56, 24, 24, 5, 1, 6, "relu6", batch=8)
_SMALL = OpSpec("mbconv", 14, 14, 24, 24, 3, 1, 3, "relu6", batch=8)


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16", "bfloat16"])
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_gpu)])
def test_a_gpu_takes_longer_for_more_work(precision, graph, mark):
    card = DeviceCard(
        name="gpu",
        runtime="torch",
        provider="cuda",
        batch=8,
        precision=precision,
        cuda_graph=graph,
    )
    device = connect(card)
    assert "NVIDIA" in device.setting.hardware
    with device.open_session() as session:
        small, large = (
            session.run(session.load(Workload.of_op(op)), 5, 30) for op in (_SMALL, _LARGE)
        )
    assert np.median(large.ms) > np.median(small.ms) > 0
    assert large.memory_bytes > small.memory_bytes > 0


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_gpu)])
def test_a_gpu_still_runs_what_was_loaded_before_other_models(mark):
    device = connect(DeviceCard(name="gpu", runtime="torch", provider="cuda", batch=8))
    ops = [replace(_LARGE, kernel=kernel) for kernel in (1, 3, 5, 7)]
    with device.open_session() as session:
        handles = [session.load(Workload.of_op(op)) for op in ops]
        for _ in range(3):
            assert all(min(session.run(handle, 1, 5).ms) > 0 for handle in handles)


@pytest.mark.parametrize("mark", [pytest.param(None, marks=needs_gpu)])
def test_on_a_gpu_the_agent_and_the_module_agree(mark, toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module = trained_looking(*network.ops)
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = module(x).numpy()
    card = DeviceCard(name="gpu", runtime="torch", provider="cuda")
    output = run_agent(module, {"input": x}, card)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)
