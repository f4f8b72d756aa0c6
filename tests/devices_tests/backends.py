"""Whatever executes the layers of an operator besides `latency.modules`: one function each, from a
module and its inputs (channels first, by name) to the output as torch has it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from ai_edge_litert.interpreter import Interpreter

from devices.agent.torch_eager import Torch
from devices.agent_device import hello
from devices.card import DeviceCard
from devices.export.onnx_model import Weights, is_channels_last, onnx_model
from devices.export.tflite_graph import serialise
from devices.export.tflite_int8 import measured_ranges, quantised
from devices.export.tflite_model import network_graph, tflite_model
from devices.runtimes.torch_eager import TorchEager
from latency import OpSpec
from latency.modules import NetworkModule

Inputs = Mapping[str, torch.Tensor]


def last(x: np.ndarray) -> np.ndarray:
    """Channels last; features stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def first(x: np.ndarray) -> np.ndarray:
    """Channels first; features stay as they are."""
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def run_onnx(module: NetworkModule, inputs: Inputs) -> np.ndarray:
    """ONNX Runtime, of a file that passes the checker."""
    ops = [part.op for part in module]
    model = onnx_model(ops, module.folded)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    arrays = {name: x.numpy() for name, x in inputs.items()}
    if not is_channels_last(ops):
        return session.run(None, arrays)[0]
    return first(session.run(None, {name: last(x) for name, x in arrays.items()})[0])


def run_lite_rt(module: NetworkModule, inputs: Inputs) -> np.ndarray:
    """LiteRT in float32."""
    ops = [part.op for part in module]
    arrays, is_turned = _as_files_take(ops, inputs)
    output = lite_rt_output(tflite_model(ops, module.folded), *arrays)
    return output if is_turned else first(output)


def run_int8(module: NetworkModule, inputs: Inputs) -> tuple[np.ndarray, float]:
    """LiteRT in int8, calibrated on these inputs: the output in float32, and the size of one of
    its steps."""
    ops = [part.op for part in module]
    arrays, is_turned = _as_files_take(ops, inputs)
    model = calibrated_int8(ops, module.folded, *arrays)
    details = interpreter_of(model)
    ends = [*details.get_input_details(), *details.get_output_details()]
    assert {end["dtype"] for end in ends} == {np.int8}
    output = lite_rt_output(model, *arrays)
    return output if is_turned else first(output), output_scale(model)


def calibrated_int8(ops: Sequence[OpSpec], weights: Weights, *inputs: np.ndarray) -> bytes:
    """The .tflite file in int8, calibrated on these inputs alone."""
    graph = network_graph(ops, weights, integer=True)
    values = dict(zip(graph.inputs, inputs, strict=True))
    return serialise(quantised(graph, measured_ranges(graph, [values])))


def run_agent(module: NetworkModule, inputs: Inputs, card: DeviceCard) -> np.ndarray:
    """The agent's own executor, of a model file that the host wrote."""
    runtime = TorchEager(card)
    with TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder, "model.npz")
        path.write_bytes(runtime.build([part.op for part in module], module.folded, "n"))
        network, drawn = Torch(**hello(card)).network(str(path))
    assert list(drawn) == list(inputs)
    with torch.inference_mode():
        for name, x in inputs.items():
            assert drawn[name].shape == x.shape
            drawn[name].copy_(x)
        output = network(drawn).float().cpu().numpy()
    for name, x in inputs.items():
        np.testing.assert_array_equal(drawn[name].float().cpu(), x)  # so that runs are alike
    return output


def interpreter_of(model: bytes) -> Interpreter:
    """LiteRT with a file, ready to run."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def lite_rt_output(model: bytes, x: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """In float32, whatever the file computes in; inputs and output as the file has them."""
    interpreter = interpreter_of(model)
    (target,) = interpreter.get_output_details()
    for source in interpreter.get_input_details():
        values = other if source["name"] == "other" else x
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            values = np.clip(np.round(values / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], values)
    interpreter.invoke()
    output = interpreter.get_tensor(target["index"])
    if output.dtype == np.int8:
        scale, zero = target["quantization"]
        output = (output.astype(np.float32) - zero) * np.float32(scale)
    return output


def output_scale(model: bytes) -> float:
    """The size of a step of the output of an int8 file."""
    return interpreter_of(model).get_output_details()[0]["quantization"][0]


def _as_files_take(ops: Sequence[OpSpec], inputs: Inputs) -> tuple[list[np.ndarray], bool]:
    """Inputs as a .tflite file takes them, and whether it only turns axes, as torch does."""
    is_turned = ops[0].layers[0].traits.turns
    return [x.numpy() if is_turned else last(x.numpy()) for x in inputs.values()], is_turned
