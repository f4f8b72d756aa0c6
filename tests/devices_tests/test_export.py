"""What is exported computes what the torch module computes, in the real ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from operators import OPERATORS, trained_looking

from devices.export import onnx_model, random_weights


def _run(model: bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_onnx_runtime_and_torch_agree(op):
    module = trained_looking(op)
    model = onnx_model([op], module.folded)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    x = torch.randn(op.batch, op.in_channels, op.height, op.width)
    with torch.no_grad():
        expected = module(x).numpy()
    np.testing.assert_allclose(_run(model, x.numpy()), expected, rtol=1e-4, atol=1e-4)


def test_a_whole_network_agrees(toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module = trained_looking(*network.ops)
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
