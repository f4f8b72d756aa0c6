"""What is written to a .tflite file computes what the torch module computes, in the real LiteRT."""

from math import prod

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from backends import calibrated_int8, first, interpreter_of, last, lite_rt_output, output_scale
from operators import KERNELS, OPERATORS, trained_looking, transposes

from devices.export.onnx_model import Weights, onnx_model, random_weights
from devices.export.tflite_int8 import tflite_file
from devices.export.tflite_model import tflite_model
from latency import OpSpec, SpecError
from latency.operators.chain import Chain
from latency.operators.kinds import KINDS, Kind
from latency.operators.layer import LAYER_KINDS, LayerKind


def int8_model(ops: list[OpSpec], weights: Weights) -> bytes:
    return tflite_file(ops, weights, "network", "int8")


def _input(op: OpSpec) -> np.ndarray:
    """(batch, height, width, channels)"""
    shape = (op.batch, op.height, op.width, op.in_channels)
    return np.random.default_rng(2).standard_normal(shape, np.float32)


def _torch_output(module: torch.nn.Module, x: np.ndarray) -> np.ndarray:
    """Of an NHWC input, NHWC or (batch, features)."""
    with torch.no_grad():
        return last(module(torch.from_numpy(first(x))).numpy())


def _onnx_output(ops: list[OpSpec], weights: Weights, x: np.ndarray) -> np.ndarray:
    """Of an NHWC input, NHWC or (batch, features)."""
    session = onnxruntime.InferenceSession(
        onnx_model(ops, weights), providers=["CPUExecutionProvider"]
    )
    return last(session.run(None, {"input": first(x)})[0])


def _is_one_partition(model: bytes) -> bool:
    """Whether XNNPACK takes the whole graph, from its input to its output."""
    interpreter = interpreter_of(model)
    delegates = [o for o in interpreter._get_ops_details() if o["op_name"] == "DELEGATE"]
    if len(delegates) != 1:
        return False
    name = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    sources = [name[index] for index in delegates[0]["inputs"]]
    computed = {name[index] for o in interpreter._get_ops_details() for index in o["outputs"]}
    targets = [name[index] for index in delegates[0]["outputs"]]
    return targets == ["output"] and "input" in sources and not computed.intersection(sources)


def _parsed(model: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(model, 0)


def _codes(model: bytes) -> set[int]:
    return {code.builtinCode for code in _parsed(model).operatorCodes}


def _weights_of(model: bytes) -> dict[str, schema.TensorT]:
    """Tensors of weights and biases by name."""
    tensors = {t.name.decode(): t for t in _parsed(model).subgraphs[0].tensors}
    return {n: t for n, t in tensors.items() if n.endswith((".weight", ".bias"))}


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_xnnpack_takes_an_operator_as_a_whole_and_nothing_is_transposed(op):
    model = tflite_model([op], random_weights())
    assert _is_one_partition(model)
    assert schema.BuiltinOperator.TRANSPOSE not in _codes(model)


@pytest.mark.parametrize("op", KERNELS, ids=str)
def test_xnnpack_takes_kernels_that_it_has_and_only_a_transpose_transposes(op):
    model = tflite_model([op], random_weights())
    assert _is_one_partition(model) == (not _is_beyond_xnnpack(op))
    assert (schema.BuiltinOperator.TRANSPOSE in _codes(model)) == transposes(op)


def _is_beyond_xnnpack(op: OpSpec) -> bool:
    """A nearest resize, a window smaller than its stride, padding by the least number there is."""
    if op.kind == "conv_transpose":
        return op.kernel < op.stride
    return op.kind == "resize" or (op.kind == "max_pool" and op.kernel > 2 and op.stride > 1)


KERNELS_IN_INT8 = [op for op in KERNELS if op.kind != "layer_norm"]


FLAT = [OpSpec("linear", 1, 1, 12, 8), OpSpec("activation", 1, 1, 8, 8, activation="relu")]


def test_an_activation_of_features_leaves_them_flat():
    module, x = trained_looking(*FLAT), _input(FLAT[0])
    output = lite_rt_output(tflite_model(FLAT, module.folded), x)
    assert output.shape == (1, 8)
    np.testing.assert_allclose(output, _torch_output(module, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output, _onnx_output(FLAT, module.folded, x), rtol=1e-5, atol=1e-5)
    graph = onnx.load_from_string(onnx_model(FLAT, module.folded)).graph
    assert [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == [1, 8]


@pytest.mark.parametrize("op", OPERATORS + KERNELS_IN_INT8, ids=str)
def test_the_file_holds_the_parameters_of_the_operator_with_norms_folded(op):
    folded = sum(layer.out_shape[2] for layer in op.layers if layer.norm)
    zeros = sum(layer.out_shape[2] for layer in op.layers if not (layer.norm or layer.bias))
    for write in (tflite_model, int8_model):
        stored = _weights_of(write([op], random_weights())).values()
        assert sum(prod(tensor.shape) for tensor in stored) == op.params - folded + zeros


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padded"),
    [(8, 3, 1, False), (9, 3, 2, False), (8, 3, 2, True), (8, 1, 2, False), (9, 7, 2, False)],
)
def test_a_pad_is_written_only_where_same_padding_is_lopsided(size, kernel, stride, padded):
    op = OpSpec("conv", size, size, 3, 8, kernel, stride)
    assert (schema.BuiltinOperator.PAD in _codes(tflite_model([op], random_weights()))) == padded


def test_activations_are_fused_where_the_format_can():
    op = OpSpec("mbconv", 14, 14, 8, 8, 5, 1, 6, "relu6")
    operators = _parsed(tflite_model([op], random_weights())).subgraphs[0].operators
    fused = [operator.builtinOptions.fusedActivationFunction for operator in operators]
    none, relu6 = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU6
    assert fused == [relu6, relu6, none, none]


def test_input_and_output_are_named_and_have_the_batch_first():
    op = OpSpec("conv", 9, 11, 4, 6, 3, 2, batch=3)
    interpreter = interpreter_of(tflite_model([op], random_weights()))
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (source["name"], source["shape"].tolist()) == ("input", [3, 9, 11, 4])
    assert (target["name"], target["shape"].tolist()) == ("output", [3, 5, 6, 6])
    run = interpreter.get_signature_runner()
    assert run(input=_input(op))["output"].shape == (3, 5, 6, 6)


def test_constants_are_aligned_as_the_schema_asks():
    model = tflite_model([OPERATORS[0], OpSpec("conv", 8, 8, 8, 5)], random_weights())
    root = schema.Model.GetRootAs(model, 0)
    start = np.frombuffer(model, np.uint8).ctypes.data
    for number in range(1, root.BuffersLength()):
        assert (root.Buffers(number).DataAsNumpy().ctypes.data - start) % 16 == 0


def test_a_whole_network_agrees_in_float32_and_in_int8(toy_space):
    network = toy_space.network([0, 6, 5, 3])
    module, x = trained_looking(*network.ops), _input(network.ops[0])
    expected = _torch_output(module, x)
    model = tflite_model(network.ops, module.folded, network.name)
    np.testing.assert_allclose(lite_rt_output(model, x), expected, rtol=1e-4, atol=1e-4)
    int8 = calibrated_int8(network.ops, module.folded, x)
    error = np.abs(lite_rt_output(int8, x) - expected)
    assert error.max() < 3 * output_scale(int8)
    for file in (model, int8):
        assert _is_one_partition(file)
        assert schema.BuiltinOperator.TRANSPOSE not in _codes(file)


@pytest.mark.parametrize("op", [OPERATORS[0], OPERATORS[10], OPERATORS[17]], ids=str)
def test_int8_keeps_most_of_the_signal_of_inputs_it_was_not_calibrated_on(op):
    module, x = trained_looking(op), _input(op)
    expected = _torch_output(module, x)
    error = lite_rt_output(int8_model([op], module.folded), x) - expected
    assert np.mean(error**2) < 0.01 * np.mean(expected**2)  # 20 dB


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_xnnpack_takes_int8_operators_too_but_for_windows_of_a_pooling_and_gelu(op):
    model = int8_model([op], random_weights())
    interpreter = interpreter_of(model)
    assert interpreter.get_input_details()[0]["dtype"] == np.int8
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    window = op.kind == "pool" and (op.kernel, op.kernel) != (op.height, op.width)
    assert _is_one_partition(model) == (not window and op.activation != "gelu")


def test_int8_weights_have_a_scale_for_every_output_channel():
    stored = _weights_of(int8_model([OPERATORS[6]], random_weights()))
    depthwise, project = stored["0.depthwise.weight"], stored["0.project.weight"]
    assert (depthwise.type, project.type) == (schema.TensorType.INT8, schema.TensorType.INT8)
    assert depthwise.quantization.quantizedDimension == 3
    assert len(depthwise.quantization.scale) == 48
    assert project.quantization.quantizedDimension == 0
    assert len(project.quantization.scale) == 8
    assert not project.quantization.zeroPoint.any()
    assert stored["0.project.bias"].type == schema.TensorType.INT32


def test_int8_keeps_the_bias_of_a_channel_without_weights():
    op, draw = OpSpec("conv", 8, 8, 3, 8, 3), random_weights()

    def weights(name, layer):
        weight, bias = draw(name, layer)
        dead = np.arange(8).reshape(8, 1, 1, 1) % 2 == 0
        tiny = np.where(np.arange(8) == 0, 0, 1e-12).astype(np.float32).reshape(8, 1, 1, 1)
        return np.where(dead, weight * tiny, weight), bias

    x = _input(op)
    model = calibrated_int8([op], weights, x)
    expected = lite_rt_output(tflite_model([op], weights), x)
    np.testing.assert_allclose(lite_rt_output(model, x), expected, atol=2 * output_scale(model))


def _append_grouped(chain: Chain, op: OpSpec) -> None:
    """A grouped convolution, a depthwise one with two outputs per channel, and their sum."""
    start = chain.tensor
    chain.conv("grouped", op.out_channels, 3, groups=2)
    chain.read(start)
    chain.conv("doubled", op.out_channels, 3, groups=op.in_channels, activation="h_swish")
    chain.append("sum", "add", chain.shape, "grouped")


def test_grouped_convolutions_and_channel_multipliers(monkeypatch):
    monkeypatch.setitem(KINDS, "grouped", Kind("grouped", _append_grouped))
    op = OpSpec("grouped", 8, 8, 6, 12, 3)
    module, x = trained_looking(op), _input(op)
    model = tflite_model([op], module.folded)
    np.testing.assert_allclose(lite_rt_output(model, x), _torch_output(module, x), atol=1e-5)
    assert _is_one_partition(model)
    int8 = calibrated_int8([op], module.folded, x)
    expected = _torch_output(module, x)
    np.testing.assert_allclose(lite_rt_output(int8, x), expected, atol=3 * output_scale(int8))


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ([OpSpec("linear", 1, 1, 8, 8), OpSpec("conv", 1, 1, 8, 8)], r"\(batch, features\)"),
        ([*FLAT, OpSpec("pool", 1, 1, 8, 8)], r"\(batch, features\)"),
        ([OpSpec("conv", 8, 8, 3, 8), OpSpec("conv", 8, 8, 8, 8, batch=2)], "has batch 2"),
        ([OpSpec("conv", 8, 8, 3, 8), OpSpec("add", 8, 8, 8, 8)], "add stands alone"),
        ([OpSpec("reorder", 8, 8, 8, 8)], "'reorder' cannot be written"),
    ],
)
def test_operators_that_do_not_form_a_chain_are_named(ops, message):
    for write in (tflite_model, int8_model):
        with pytest.raises(SpecError, match=message):
            write(ops, random_weights())


def test_a_layer_without_a_form_in_the_format_is_named(monkeypatch):
    monkeypatch.setitem(LAYER_KINDS, "roll", LayerKind())
    roll = Kind("odd", lambda chain, op: chain.append("roll", "roll", chain.shape))
    monkeypatch.setitem(KINDS, "odd", roll)
    with pytest.raises(SpecError, match=r"0\.roll: a 'roll' cannot be written"):
        tflite_model([OpSpec("odd", 8, 8, 3, 3)], random_weights())
