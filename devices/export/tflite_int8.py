"""Full-integer quantisation of a TensorFlow Lite graph after training.

The scheme of Jacob et al. (Quantization and training of neural networks for efficient
integer-arithmetic-only inference, CVPR 2018) as TensorFlow Lite specifies it for int8: real =
scale * (stored - zero point), weights symmetric with a scale per output channel, biases in int32,
activations asymmetric with the range measured on calibration inputs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.schema_py_generated import QuantizationParametersT as Quantisation
from numpy.typing import NDArray

from devices.export.onnx_model import Weights
from devices.export.tflite_graph import WEIGHTED, Code, Graph, serialise
from devices.export.tflite_model import network_graph, tflite_model
from latency.operators.spec import OpSpec

_CALIBRATION_INPUTS = 8

_KEEPS_QUANTISATION = (
    *(Code.PAD, Code.PADV2, Code.AVERAGE_POOL_2D, Code.MAX_POOL_2D, Code.CONCATENATION),
    *(Code.SLICE, Code.TRANSPOSE, Code.RESHAPE, Code.RESIZE_NEAREST_NEIGHBOR),
)
"""Operators whose output must have the quantisation of their input."""

Ranges = dict[str, tuple[float, float]]
"""The minimum and maximum of each tensor, by its name."""

Stored = tuple[NDArray[np.integer], Quantisation]


def tflite_file(ops: Sequence[OpSpec], weights: Weights, name: str, precision: str) -> bytes:
    """The .tflite file of a chain of operators, in "float32" (`tflite_model`) or "int8".

    In int8, input "input" and output "output" have the same shapes, and carry their scale and zero
    point. Activations saturate outside the ranges that they had on eight standard-normal inputs
    (seeded). Raises `SpecError` as `tflite_model`, and for a layer without an int8 form.
    """
    if precision != "int8":
        return tflite_model(ops, weights, name)
    graph = network_graph(ops, weights, name, integer=True)
    draws = {name: np.random.default_rng(seed) for seed, name in enumerate(graph.inputs)}
    inputs = [
        {
            name: draw.standard_normal(graph.tensors[name].shape, np.float32)
            for name, draw in draws.items()
        }
        for _ in range(_CALIBRATION_INPUTS)
    ]
    return serialise(quantised(graph, measured_ranges(graph, inputs)))


def measured_ranges(graph: Graph, inputs: Iterable[Mapping[str, NDArray[np.float32]]]) -> Ranges:
    """The range of each tensor of a float32 graph over inputs, computed by LiteRT. Ranges include
    zero."""
    interpreter = Interpreter(
        model_content=serialise(graph),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    ranges = dict.fromkeys([*graph.inputs, *(node.output for node in graph.nodes)], (0.0, 0.0))
    for values in inputs:
        for name, array in values.items():
            interpreter.set_tensor(index[name], array)
        interpreter.invoke()
        for name, (low, high) in ranges.items():
            tensor = interpreter.get_tensor(index[name])
            ranges[name] = (min(low, float(tensor.min())), max(high, float(tensor.max())))
    return ranges


def quantised(graph: Graph, ranges: Ranges) -> Graph:
    """The graph in int8, with its activations in these ranges."""
    if any(node.code == Code.CONCATENATION for node in graph.nodes):  # its inputs share a scale
        lows, highs = zip(*(ranges[name] for name in graph.inputs), strict=True)
        ranges = {**ranges, **dict.fromkeys(graph.inputs, (min(lows), max(highs)))}
    tensors = dict(graph.tensors)
    activations = {name: _asymmetric(*ranges[name]) for name in graph.inputs}
    for node in graph.nodes:
        source = next(activations[name] for name in node.inputs if name in activations)
        if node.code in _KEEPS_QUANTISATION or ranges[node.output] == (0.0, 0.0):
            output = source
        elif node.code in (Code.LOGISTIC, Code.SOFTMAX):  # 0 to 1, prescribed by the format
            output = _quantisation(1 / 256, -128)
        else:
            output = _asymmetric(*ranges[node.output])
        activations[node.output] = output
        constants = {
            name: data
            for name in node.inputs
            if (data := tensors[name].data) is not None and data.dtype == np.float32
        }
        if node.code in WEIGHTED:
            axis = 3 if node.code == Code.DEPTHWISE_CONV_2D else 0  # of the output channels
            weight, bias = constants.values()
            stored = _parameters(weight, bias, axis, source, output)
        else:
            own = source if node.code == Code.PADV2 else None
            stored = [
                _stored(data, own or _asymmetric(data.min(), data.max()))
                for data in constants.values()
            ]
        for name, (data, quantisation) in zip(constants, stored, strict=True):
            tensors[name] = replace(tensors[name], data=data, quantisation=quantisation)
    for name, quantisation in activations.items():
        tensors[name] = replace(tensors[name], quantisation=quantisation)
    return Graph(graph.name, tensors, graph.nodes)


def _asymmetric(low: float, high: float) -> Quantisation:
    """256 steps over the range, extended to include zero; one step is exactly zero."""
    low, high = min(0.0, float(low)), max(0.0, float(high))
    scale = max(high - low, 1e-6) / 255
    return _quantisation(scale, round(-128 - low / scale))


def _quantisation(scale: float, zero_point: int) -> Quantisation:
    return Quantisation(
        scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
    )


def _stored(data: NDArray[np.float32], quantisation: Quantisation) -> Stored:
    """A constant in int8; values outside the range saturate."""
    steps = np.round(data.astype(np.float64) / quantisation.scale) + quantisation.zeroPoint
    return np.clip(steps, -128, 127).astype(np.int8), quantisation


def _parameters(
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    axis: int,
    source: Quantisation,
    output: Quantisation,
) -> list[Stored]:
    """The weight in int8 with a scale per channel, and the bias in int32 in the accumulator's unit.

    Channels with almost zero weights get a scale at which their bias still fits into 30 bits, and
    which fixed-point multipliers can convert to the output's scale.
    """
    unit = source.scale.astype(np.float64)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others).astype(np.float64) / 127
    smallest = np.maximum(np.abs(bias) / unit, output.scale / unit) * 2.0**-30
    scale = np.maximum(scale, smallest).astype(np.float32)
    integers = np.clip(np.round(weight / np.expand_dims(scale, others)), -127, 127)
    zeros = np.zeros(len(scale), np.int64)
    of_weight = Quantisation(scale=scale, zeroPoint=zeros, quantizedDimension=axis)
    of_bias = Quantisation(scale=scale * source.scale, zeroPoint=zeros)
    offsets = np.round(bias / (scale * unit)).astype(np.int32)
    return [(integers.astype(np.int8), of_weight), (offsets, of_bias)]
