"""What is promised of broken files, ONNX, tables and networks: an answer or a word, never a
traceback, soon, and in bounded memory."""

import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from figure import Figure

from devices.cnn_writer import CnnWriter
from latency import LatencyTable, NetworkSpec, fit, zoo
from latency.errors import LatError
from latency.headers import TRANSFER
from latency.kernels import kernels_of
from latency.library import shipped_folder
from latency.onnx_graph import parse_graph
from latency.regression import RegressionModel

FILES = 10_000
TEXTS = 2_000
"""Files of each other kind."""
_HOSTILE = (b"nan", b"inf", b"-1", b"0", b"1e-320", b"1e400", b"9" * 5000, b"", b'"', b"[" * 3000)


def fuzz() -> Iterator[Figure]:
    """Files damaged at random: bytes changed, cut out, put in, doubled; graphs rewired, numbers
    that cannot be; pure noise now and then."""
    tried = _Tried()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        table = _table(Path(folder))
        model = fit(LatencyTable.load(table), extrapolate=True)
        bases = [_plain(), _quantised(), _of_pixels(), _elsewhere()]
        for base in bases:  # the cost models of their kernels are fitted
            _predict(base, model)
        for seed in range(FILES):
            damaged = _damaged(bases[seed % len(bases)], random.Random(seed), _rewired)
            tried.read(_predict, damaged, model)
        network = Path(folder) / "network.json"
        network.write_text(zoo.load("mobilenet_v2").to_json())
        for path, read in ((table, _read_table), (network, _read_network)):
            content = path.read_bytes()
            for seed in range(TEXTS):
                path.write_bytes(_damaged(content, random.Random(seed), _reworded))
                tried.read(read, path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    yield Figure("damaged ONNX files", FILES, least=10_000)
    yield Figure("damaged tables", TEXTS)
    yield Figure("damaged networks in JSON", TEXTS)
    yield Figure("  read all the same", tried.answers)
    yield Figure("  refused in words", tried.words)
    yield Figure("  tracebacks", tried.tracebacks, 0)
    yield Figure("  slowest", tried.slowest, 5.0, unit="s")
    yield Figure("  memory that it took", grown, 500, unit="MiB")


class _Tried:
    """How attempts to read ended, and how long the longest took in seconds."""

    def __init__(self) -> None:
        self.answers = self.words = self.tracebacks = 0
        self.slowest = 0.0

    def read(self, attempt: Callable[..., object], *given: object) -> None:
        start = time.perf_counter()
        try:
            attempt(*given)
            self.answers += 1
        except LatError:
            self.words += 1
        except Exception:
            self.tracebacks += 1
        self.slowest = max(self.slowest, time.perf_counter() - start)


def _predict(content: bytes, model: RegressionModel) -> None:
    model.predict(kernels_of(parse_graph(content, "damaged.onnx")))


def _read_table(path: Path) -> None:
    table = LatencyTable.load(path)
    for space in {*table.validations, *table.transfers}:
        table.stated_error(space)
    fit(table).missing(table)


def _read_network(path: Path) -> None:
    network = NetworkSpec.load(path)
    assert network.macs + network.params + network.parts[0].bytes > 0


def _table(folder: Path) -> Path:
    """A table of a few kernels, one space of it transferred."""
    shipped = LatencyTable.load(next(shipped_folder().glob("*onnxruntime*.csv")))
    inside = [op for op, row in shipped.rows.items() if row.is_inside]
    rows = {op: shipped.rows[op] for op in inside[:: len(inside) // 60]}
    space, *_ = shipped.validations
    said = {**shipped.circumstances, f"{TRANSFER} {space}": "from another; 3 networks measured"}
    path = folder / "table.csv"
    replace(shipped, rows=rows, in_network_ms={}, circumstances=said).save(path)
    return path


def _plain() -> bytes:
    writer = CnnWriter(16, 8)
    return _finished(writer, writer.conv("input", 8, 3))


def _quantised() -> bytes:
    """One tensor goes through 8-bit integers, and one weight is kept in them."""
    writer = CnnWriter(16, 8)
    scale = [writer.constant(np.array(0.1)), writer.constant(np.array(0), np.uint8)]
    x = writer.node("QuantizeLinear", [writer.conv("input", 8, 3), *scale])
    x = writer.node("DequantizeLinear", [x, *scale])
    x = writer.conv(x, 8, 3)
    weight = writer.constant(np.zeros((8, 8, 1, 1)), np.uint8)
    weight = writer.node("DequantizeLinear", [weight, *scale])
    return _finished(writer, writer.node("Conv", [x, weight], shape=(8, 16)))


def _of_pixels() -> bytes:
    """Bytes with channels last go in."""
    writer = CnnWriter(16, 8)
    writer.image = [1, 16, 16, 8]
    x = writer.node("Transpose", ["input"], shape=(8, 16), perm=[0, 3, 1, 2])
    x = writer.node("Cast", [x], to=onnx.TensorProto.FLOAT)
    model = onnx.load_from_string(_finished(writer, writer.conv(x, 8, 3)))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    del model.graph.value_info[:]
    return model.SerializeToString()


def _elsewhere() -> bytes:
    """Weights are in a file that is not there."""
    model = onnx.load_from_string(_plain())
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > 256:
            onnx.external_data_helper.set_external_data(tensor, "../weights.bin")
            tensor.ClearField("raw_data")
    return model.SerializeToString()


def _finished(writer: CnnWriter, x: str) -> bytes:
    """The model that goes on from a tensor of 8 channels, and has most of what there is."""
    x = writer.squeeze_excite(writer.conv(x, 16, 3, 2), 4, "silu", "sigmoid")
    x = writer.shuffled([x, writer.max_pool(writer.conv(x, 16, 1), 3, 1)])
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.gelu(x)])])
    return writer.model("fuzz", writer.linear(x, 32, 10))


def _damaged(
    content: bytes, generator: random.Random, change: Callable[[bytes, random.Random], bytes]
) -> bytes:
    """Damaged as a row of bytes, or by a `change` that leaves the file one of its kind."""
    if generator.random() < 0.05:
        return generator.randbytes(generator.randrange(2000))
    if generator.random() < 0.6:
        return change(content, generator)
    data = bytearray(content)
    for _ in range(generator.randint(1, 8)):
        place = generator.randrange(len(data))
        how = generator.randrange(5)
        if how == 0:
            data[place] = generator.randrange(256)
        elif how == 1:
            del data[place : place + generator.randint(1, 60)]
        elif how == 2:
            data[place:place] = generator.randbytes(generator.randint(1, 12))
        elif how == 3:
            data[place:place] = data[place : place + generator.randint(1, 400)]
        else:
            del data[place:]
        if not data:
            break
    return bytes(data)


def _rewired(content: bytes, generator: random.Random) -> bytes:
    """A file that is sound as a file, and whose graph is not."""
    model = onnx.load_from_string(content)
    nodes = model.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)]
    for _ in range(generator.randint(1, 4)):
        node = generator.choice(nodes)
        how = generator.randrange(8)
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
        else:
            nodes.remove(node)
            if not nodes:
                break
    return model.SerializeToString()


def _reworded(content: bytes, generator: random.Random) -> bytes:
    """A text with other words between its commas, blanks, colons and hyphens."""
    words = re.split(rb"([-,: =\n]+)", content)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(0, len(words), 2)
        words[place] = generator.choice([*_HOSTILE, words[generator.randrange(0, len(words), 2)]])
    return b"".join(words)
