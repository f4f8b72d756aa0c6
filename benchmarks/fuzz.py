"""What is promised of broken ONNX files: an answer or a word, never a traceback, soon, and in
bounded memory."""

import random
import resource
import time
from collections.abc import Iterator

import onnx
from figure import Figure

from devices.cnn_writer import CnnWriter
from latency.errors import LatError
from latency.kernels import kernels_of
from latency.onnx_graph import parse_graph

FILES = 10_000


def fuzz() -> Iterator[Figure]:
    """Files damaged at random: bytes changed, cut out, put in, doubled; pure noise now and then."""
    content = _sound()
    answers = words = tracebacks = 0
    slowest = 0.0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(FILES):
        damaged = _damaged(content, random.Random(seed))
        start = time.perf_counter()
        try:
            kernels_of(parse_graph(damaged, "damaged.onnx"))
            answers += 1
        except LatError:
            words += 1
        except Exception:
            tracebacks += 1
        slowest = max(slowest, time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    yield Figure("damaged ONNX files", FILES, least=10_000)
    yield Figure("  read all the same", answers)
    yield Figure("  refused in words", words)
    yield Figure("  tracebacks", tracebacks, 0)
    yield Figure("  slowest", slowest, 5.0, unit="s")
    yield Figure("  memory that it took", grown, 500, unit="MiB")


def _sound() -> bytes:
    writer = CnnWriter(16, 8)
    x = writer.conv("input", 8, 3)
    x = writer.squeeze_excite(writer.conv(x, 16, 3, 2), 4, "silu", "sigmoid")
    x = writer.shuffled([x, writer.max_pool(writer.conv(x, 16, 1), 3, 1)])
    x = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.gelu(x)])])
    return writer.model("fuzz", writer.linear(x, 32, 10))


def _damaged(content: bytes, generator: random.Random) -> bytes:
    if generator.random() < 0.05:
        return generator.randbytes(generator.randrange(2000))
    if generator.random() < 0.6:
        return _rewired(content, generator)
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
