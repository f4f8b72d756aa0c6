"""What is exported computes what the torch module computes, in the real ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from devices.export import onnx_model, random_weights
from latency import OpSpec
from latency.modules import NetworkModule

OPERATORS = [
    OpSpec("conv", 16, 16, 3, 8, 3, 2, activation="relu6"),
    OpSpec("conv", 9, 11, 4, 6, 5, 2, activation="silu"),
    OpSpec("conv", 7, 7, 20, 16, 1, activation="h_swish"),
    OpSpec("mbconv", 14, 14, 8, 8, 5, 1, 6, "relu6"),
    OpSpec("mbconv", 15, 15, 8, 16, 7, 2, 3, "relu"),
    OpSpec("mbconv", 8, 8, 16, 24, 3, 1, 2.5, "h_swish", 0.25),
    OpSpec("mbconv", 8, 8, 8, 8, 3, 1, 3, "sigmoid", 0.5),
    OpSpec("pool", 7, 7, 12, 12, 7),
    OpSpec("pool", 9, 9, 12, 12, 3, 2),
    OpSpec("linear", 1, 1, 32, 10),
    OpSpec("conv", 8, 8, 3, 8, 3, activation="h_sigmoid", batch=3),
]


def _trained_looking(module: NetworkModule) -> NetworkModule:
    """Batch-norm statistics as after training, so that folding them wrongly shows."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(part.weight)
            torch.nn.init.normal_(part.bias)
    return module.eval()


def _run(model: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_onnx_runtime_and_torch_agree(op):
    module = _trained_looking(NetworkModule((op,)))
    model = onnx_model([op], module.folded)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    x = torch.randn(op.batch, op.in_channels, op.height, op.width)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(_run(model, x.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_a_whole_network_agrees(toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module = _trained_looking(NetworkModule(network.ops))
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = module(x).numpy()
    output = _run(onnx_model(network.ops, module.folded), x.numpy())
    assert output.shape == (1, 10)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)


def test_random_weights_are_never_zero_and_keep_activations_in_range(toy_space):
    network = toy_space.network(toy_space.largest)
    model = onnx_model(network.ops, random_weights())
    for tensor in onnx.load_from_string(model).graph.initializer:
        if tensor.name.endswith(".weight"):
            values = onnx.numpy_helper.to_array(tensor)
            assert values.std() > 0
            assert (values != 0).mean() > 0.99
    output = _run(model, np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32))
    assert 1e-3 < np.abs(output).max() < 1e3
