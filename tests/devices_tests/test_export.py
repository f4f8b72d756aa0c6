"""What is exported computes what the torch module computes, in the real ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from operators import KERNELS, OPERATORS, trained_looking, transposes

from devices.export.onnx_model import onnx_model, random_weights
from latency import OpSpec, SpecError


def _run(model: bytes, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def _kinds_of_nodes(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.mark.parametrize("op", OPERATORS + KERNELS, ids=str)
def test_a_graph_of_half_precision_is_one_throughout(op):
    model = onnx_model([op], random_weights(), half=True)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    output = _run(
        model,
        **{
            value.name: np.ones([d.dim_value for d in value.type.tensor_type.shape.dim], np.float16)
            for value in onnx.load_from_string(model).graph.input
        },
    )
    assert output.dtype == np.float16
    assert np.isfinite(output).all()


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_no_operator_transposes_but_a_transpose(op):
    kinds = _kinds_of_nodes(onnx_model([op], random_weights()))
    assert kinds.count("Transpose") == transposes(op)


def test_onnx_runtime_knows_a_gelu(tmp_path):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    model = onnx_model([OpSpec("activation", 8, 8, 4, 4, activation="gelu")], random_weights())
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = _kinds_of_nodes((tmp_path / "optimized.onnx").read_bytes())
    assert kinds == ["Gelu"]


def test_channels_go_last_and_back_in_a_chain_that_has_them_first():
    ops = (
        OpSpec("conv", 8, 8, 3, 6, 3, 2),
        OpSpec("layer_norm", 4, 4, 6, 6),
        OpSpec("matmul", 4, 4, 6, 5, activation="gelu"),
        OpSpec("max_pool", 4, 4, 5, 5, 3, 2),
    )
    module, x = trained_looking(*ops), torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = module(x).numpy()
    output = _run(onnx_model(ops, module.folded), input=x.numpy())
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)


def test_a_chain_along_the_channels_has_them_last_throughout():
    ops = (
        OpSpec("layer_norm", 4, 4, 6, 6),
        OpSpec("matmul", 4, 4, 6, 5),
        OpSpec("activation", 4, 4, 5, 5, activation="relu"),
    )
    module, x = trained_looking(*ops), torch.randn(1, 6, 4, 4)
    with torch.no_grad():
        expected = module(x).permute(0, 2, 3, 1).numpy()
    model = onnx_model(ops, module.folded)
    output = _run(model, input=x.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    assert "Transpose" not in _kinds_of_nodes(model)


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([OpSpec("conv", 8, 8, 4, 4), OpSpec("add", 8, 8, 4, 4)], "an? add stands alone"),
        ([OpSpec("conv", 8, 8, 4, 4), OpSpec("transpose", 8, 8, 4, 4)], "transpose stands alone"),
        ([OpSpec("reorder", 8, 8, 4, 4)], "'reorder' exists in runtimes only"),
        ([OpSpec("linear", 1, 1, 8, 8), OpSpec("conv", 1, 1, 8, 8)], r"\(batch, features\)"),
    ],
)
def test_operators_that_do_not_form_a_chain_are_named(ops, message):
    with pytest.raises(SpecError, match=message):
        onnx_model(ops, random_weights())


def test_a_whole_network_agrees(toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module = trained_looking(*network.ops)
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        expected = module(x).numpy()
    output = _run(onnx_model(network.ops, module.folded), input=x.numpy())
    assert output.shape == (1, 10)
    np.testing.assert_allclose(output, expected, rtol=1e-3, atol=1e-3)


def test_an_operator_is_the_same_file_whatever_was_built_before_it():
    small, large = OpSpec("conv", 8, 8, 3, 8, 3), OpSpec("mbconv", 8, 8, 8, 16, 3, 1, 3)
    first, second = random_weights(), random_weights()
    files = {op: onnx_model([op], first) for op in (small, large)}
    assert {op: onnx_model([op], second) for op in (large, small)} == files
    assert onnx_model([small], random_weights(1)) != files[small]


def test_random_weights_are_never_zero_and_keep_activations_in_range(toy_space):
    network = toy_space.network(toy_space.largest)
    model = onnx_model(network.ops, random_weights())
    for tensor in onnx.load_from_string(model).graph.initializer:
        if tensor.name.endswith(".weight"):
            values = onnx.numpy_helper.to_array(tensor)
            assert values.std() > 0
            assert (values != 0).mean() > 0.99
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    output = _run(model, input=x)
    assert 1e-3 < np.abs(output).max() < 1e3
