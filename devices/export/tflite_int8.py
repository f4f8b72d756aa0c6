"""Full-integer quantisation of a TensorFlow Lite graph after training.

The scheme of Jacob et al. (Quantization and training of neural networks for efficient
integer-arithmetic-only inference, CVPR 2018) as TensorFlow Lite specifies it for int8: real =
scale * (stored - zero point), weights symmetric with a scale for every output channel, biases in
int32, activations asymmetric with the range they took on calibration inputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from devices.export.onnx_model import Weights
from devices.export.tflite_graph import Code, Graph, Node, Quantisation, Tensor, serialise
from devices.export.tflite_model import network_graph, tflite_model
from latency.errors import UsageError
from latency.operators.kinds import INPUT, OTHER
from latency.operators.spec import OpSpec

CALIBRATION_INPUTS = 8
"""Random inputs that are drawn where none are given."""

_KEEPS_QUANTISATION = (
    *(Code.PAD, Code.PADV2, Code.AVERAGE_POOL_2D, Code.MAX_POOL_2D, Code.CONCATENATION),
    *(Code.SLICE, Code.TRANSPOSE, Code.RESHAPE, Code.RESIZE_NEAREST_NEIGHBOR),
)
"""Operators whose output the format wants to be quantised as their inputs are."""

_SHARES = (Code.LOGISTIC, Code.SOFTMAX)
"""Operators whose output is between 0 and 1, and that the format wants to be quantised so."""

_CHANNEL_AXIS = {
    **{Code.CONV_2D: 0, Code.TRANSPOSE_CONV: 0, Code.DEPTHWISE_CONV_2D: 3},
    Code.FULLY_CONNECTED: 0,
}
"""Operators with a weight and a bias, and the axis of the weight's output channels."""

Ranges = dict[str, tuple[float, float]]
"""From a tensor's name to its least and its largest value."""


def tflite_file(ops: Sequence[OpSpec], weights: Weights, name: str, precision: str) -> bytes:
    """The .tflite file of a chain of operators, in "float32" or "int8"; errors as below."""
    write = tflite_int8_model if precision == "int8" else tflite_model
    return write(ops, weights, name)


def tflite_int8_model(
    ops: Sequence[OpSpec],
    weights: Weights,
    name: str = "network",
    calibration: Sequence[NDArray[np.float32]] | None = None,
    others: Sequence[NDArray[np.float32]] | None = None,
) -> bytes:
    """The .tflite file of a chain of operators, in int8 from its input to its output.

    Input "input" and output "output" have the shapes that `tflite_model` gives them, and carry
    their scale and zero point. `calibration`: float32 inputs of the network's shape (batch,
    height, width, channels); values outside the ranges that activations took on them saturate.
    Where none are given, standard normal ones are drawn (seeded). `others`: as many of the second
    input, where the operator has one. Raises `SpecError` where the operators don't form a chain
    or one has no int8 form, `UsageError` where calibration inputs don't fit them.
    """
    graph = network_graph(ops, weights, name, integer=True)
    given = {INPUT: calibration, OTHER: others}
    count = CALIBRATION_INPUTS if calibration is None else len(calibration)
    inputs = {
        name: _drawn(graph.tensors[name].shape, count, seed) if values is None else values
        for seed, name in enumerate(graph.inputs)
        for values in [given[name]]
    }
    return serialise(quantised(graph, measured_ranges(graph, inputs)))


def _drawn(shape: tuple[int, ...], count: int, seed: int) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape, np.float32) for _ in range(count)]


def measured_ranges(graph: Graph, inputs: Mapping[str, Sequence[NDArray[np.float32]]]) -> Ranges:
    """Range of every tensor of a float32 graph over inputs of these names, as LiteRT computes
    them."""
    interpreter = Interpreter(
        model_content=serialise(graph),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    for name in graph.inputs:
        _check_inputs(inputs[name], graph.tensors[name].shape, len(inputs[INPUT]))
    computed = [*graph.inputs, *(node.output for node in graph.nodes)]
    ranges = dict.fromkeys(computed, (0.0, 0.0))  # zero is always among the numbers of int8
    for run in range(len(inputs[INPUT])):
        for name in graph.inputs:
            interpreter.set_tensor(index[name], np.ascontiguousarray(inputs[name][run]))
        interpreter.invoke()
        for tensor in computed:
            values, (low, high) = interpreter.get_tensor(index[tensor]), ranges[tensor]
            ranges[tensor] = (min(low, float(values.min())), max(high, float(values.max())))
    return ranges


def quantised(graph: Graph, ranges: Ranges) -> Graph:
    """The graph in int8, its activations in these ranges."""
    if any(node.code == Code.CONCATENATION for node in graph.nodes):
        both = [ranges[name] for name in graph.inputs]  # the format wants them to be alike
        joint = (min(low for low, _ in both), max(high for _, high in both))
        ranges = {**ranges, **dict.fromkeys(graph.inputs, joint)}
    tensors = {
        name: replace(graph.tensors[name], quantisation=_asymmetric(*ranges[name]))
        for name in graph.inputs
    }
    for node in graph.nodes:
        constants = [graph.tensors[i] for i in node.inputs if graph.tensors[i].data is not None]
        source = next(tensors[i] for i in node.inputs if graph.tensors[i].data is None)
        quantisation = _output_quantisation(node, source, ranges)
        output = replace(graph.tensors[node.output], quantisation=quantisation)
        tensors[node.output] = output
        numbers = [constant for constant in constants if constant.dtype != "int32"]
        if node.code in _CHANNEL_AXIS:
            numbers = _parameters(node, numbers, source, output)
        elif node.code == Code.PADV2:
            numbers = [_least(constant, source) for constant in numbers]
        else:
            numbers = [_constant(constant) for constant in numbers]
        tensors |= {constant.name: constant for constant in constants + numbers}
    return Graph(graph.name, tensors, graph.nodes)


def _check_inputs(
    inputs: Sequence[NDArray[np.float32]], shape: tuple[int, ...], count: int
) -> None:
    if not count:
        raise UsageError("int8 needs at least one calibration input")
    if len(inputs) != count:
        raise UsageError(f"{count} calibration inputs, but {len(inputs)} of the second input")
    for values in inputs:
        if values.shape != shape or values.dtype != np.float32:
            raise UsageError(
                f"a calibration input is {values.dtype} {values.shape}; the network takes "
                f"float32 (batch, height, width, channels) = {shape}"
            )
        if not np.isfinite(values).all():
            raise UsageError("a calibration input has values that are not finite")


def _output_quantisation(node: Node, source: Tensor, ranges: Ranges) -> Quantisation:
    is_nothing = ranges[node.output] == (0.0, 0.0)  # any step will do: one of a usual size
    if node.code in _KEEPS_QUANTISATION or is_nothing:
        assert source.quantisation is not None
        return source.quantisation
    if node.code in _SHARES:
        return _quantisation(1 / 256, -128)  # what the format prescribes
    return _asymmetric(*ranges[node.output])


def _asymmetric(low: float, high: float) -> Quantisation:
    """256 steps over a range that includes zero, zero being one of them."""
    scale = max(high - low, 1e-6) / 255
    return _quantisation(scale, round(-128 - low / scale))


def _quantisation(scale: float, zero_point: int) -> Quantisation:
    return Quantisation(np.array([scale], np.float32), np.array([zero_point], np.int64))


def _scale(tensor: Tensor) -> float:
    assert tensor.quantisation is not None
    return float(tensor.quantisation.scale[0])


def _constant(constant: Tensor) -> Tensor:
    """A constant over the whole range of int8: a positive number is its largest."""
    assert constant.data is not None
    low, high = min(0.0, float(constant.data.min())), max(0.0, float(constant.data.max()))
    quantisation = _asymmetric(low, high)
    stored = np.round(constant.data / quantisation.scale[0]) + quantisation.zero_point[0]
    data = np.clip(stored, -128, 127).astype(np.int8)
    return replace(constant, data=data, quantisation=quantisation)


def _least(constant: Tensor, source: Tensor) -> Tensor:
    """The least number of int8, in the source's unit."""
    assert constant.data is not None
    data = np.full_like(constant.data, -128, np.int8)
    return replace(constant, data=data, quantisation=source.quantisation)


def _parameters(
    node: Node, constants: list[Tensor], source: Tensor, output: Tensor
) -> list[Tensor]:
    """Weight in int8, a scale a channel, and bias in int32, in the accumulator's unit.

    Channels whose weights are next to nothing get a scale at which their bias still fits into
    30 bits, and accumulator and output are within what fixed-point multipliers bridge.
    """
    weight, bias = constants
    assert weight.data is not None
    assert bias.data is not None
    axis, unit = _CHANNEL_AXIS[node.code], _scale(source)
    others = tuple(i for i in range(weight.data.ndim) if i != axis)
    scale = np.abs(weight.data).max(axis=others).astype(np.float64) / 127
    smallest = np.maximum(np.abs(bias.data) / unit, _scale(output) / unit) * 2.0**-30
    scale = np.maximum(scale, smallest).astype(np.float32)
    by_channel = np.expand_dims(scale, others)
    integers = np.clip(np.round(weight.data / by_channel), -127, 127).astype(np.int8)
    offsets = np.round(bias.data / (scale * np.float64(unit))).astype(np.int32)
    zeros = np.zeros(len(scale), np.int64)
    return [
        replace(weight, data=integers, quantisation=Quantisation(scale, zeros, axis)),
        replace(bias, data=offsets, quantisation=Quantisation(scale * np.float32(unit), zeros, 0)),
    ]
