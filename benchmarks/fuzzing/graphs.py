"""ONNX files, predicted by a table."""

from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import onnx as onnx_format

from devices.kernel_suite.cnn_writer import CnnWriter
from fuzzing.damage import damaged, put
from fuzzing.tables import small_table
from fuzzing.target import Target
from latency import LatencyTable, fit
from latency.graphs.kernels import kernels_of
from latency.graphs.reader import read_graph
from latency.predictors.regression import RegressionModel


def onnx(folder: Path) -> Target:
    """CNNs of several forms."""
    path = folder / "network.onnx"
    model = fit(LatencyTable.load(small_table(folder)), extrapolate=True)
    bases = [_plain(), _quantised(), _of_pixels(), _elsewhere()]
    for base in bases:  # the cost models of their kernels are fitted
        path.write_bytes(base)
        _predict(path, model, None)

    def restore() -> None:
        path.write_bytes(bases[0])

    def damage(generator: Random) -> None:
        put(path, damaged(generator.choice(bases), generator, (rewired,)), generator)

    return Target(restore, damage, partial(_predict, path, model))


def _predict(path: Path, model: RegressionModel, generator: Random | None) -> None:
    model.predict(kernels_of(read_graph(path)))


def _plain() -> bytes:
    writer = CnnWriter(16, 8)
    return _finished(writer, writer.conv("input", 8, 3))


def _quantised() -> bytes:
    """One tensor goes through 8-bit integers, and one weight is kept in them."""
    writer = CnnWriter(16, 8)
    scale = [writer.constant(0.1), writer.constant(0, dtype=np.uint8)]
    x = writer.node("QuantizeLinear", [writer.conv("input", 8, 3), *scale])
    x = writer.node("DequantizeLinear", [x, *scale])
    x = writer.conv(x, 8, 3)
    weight = writer.constant(np.zeros((8, 8, 1, 1)), dtype=np.uint8)
    weight = writer.node("DequantizeLinear", [weight, *scale])
    return _finished(writer, writer.node("Conv", [x, weight], shape=(8, 16)))


def _of_pixels() -> bytes:
    """Bytes with channels last go in."""
    writer = CnnWriter(16, 8)
    writer.image = [1, 16, 16, 8]
    x = writer.node("Transpose", ["input"], shape=(8, 16), perm=[0, 3, 1, 2])
    x = writer.node("Cast", [x], to=onnx_format.TensorProto.FLOAT)
    model = onnx_format.load_from_string(_finished(writer, writer.conv(x, 8, 3)))
    model.graph.input[0].type.tensor_type.elem_type = onnx_format.TensorProto.UINT8
    del model.graph.value_info[:]
    return model.SerializeToString()


def _elsewhere() -> bytes:
    """Weights are in a file that is not there."""
    model = onnx_format.load_from_string(_plain())
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 256:
            onnx_format.external_data_helper.set_external_data(tensor, "../weights.bin")
            tensor.ClearField("raw_data")
    return model.SerializeToString()


def _finished(writer: CnnWriter, x: str) -> bytes:
    """The model that goes on from a tensor of 8 channels, and has most of what there is."""
    x = writer.squeeze_excite(writer.conv(x, 16, 3, 2), 4, "silu", "sigmoid")
    x = writer.shuffled([x, writer.max_pool(writer.conv(x, 16, 1), 3, 1)])
    x = writer.node("Flatten", [writer.pooled(writer.gelu(x))])
    return writer.model("fuzz", writer.linear(x, 10))


def rewired(content: bytes, generator: Random) -> bytes:
    """A file that is sound as a file, and whose graph is not."""
    model = onnx_format.load_from_string(content)
    nodes = model.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)]
    for _ in range(generator.randint(1, 4)):
        node = generator.choice(nodes)
        how = generator.randrange(10)
        if how == 0:
            node.op_type = generator.choice(nodes).op_type
        elif how == 1 and node.input:
            node.input[generator.randrange(len(node.input))] = generator.choice(names)
        elif how == 2:
            node.input.append(generator.choice(names))
        elif how == 3 and node.input:
            del node.input[generator.randrange(len(node.input))]
        elif how == 4 and node.attribute:
            attribute = generator.choice(node.attribute)
            attribute.i = generator.choice([-1, 0, 1 << 62])
            attribute.ints[:] = [generator.choice([-3, 0, 7, 1 << 40])] * generator.randrange(6)
        elif how == 5 and node.attribute:
            generator.choice(node.attribute).name = generator.choice(["group", "perm", "axis"])
        elif how == 6:
            tensor = generator.choice(model.graph.initializer)
            tensor.dims[:] = [generator.choice([-1, 0, 1, 8, 1 << 33]) for _ in range(4)]
        elif how == 7:
            node.name = node.op_type = generator.choice(["\x1b]0;t\x07", "a\nb", "x" * 10_000, ""])
        elif how == 8:
            sizes = model.graph.input[0].type.tensor_type.shape.dim
            generator.choice(sizes).dim_value = generator.choice([-1, 0, 1 << 20, 1 << 40])
        else:
            nodes.remove(node)
            if not nodes:
                break
    return model.SerializeToString()
