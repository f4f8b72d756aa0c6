"""Memory that a network's activations take while it runs."""

from latency.ops import OpSpec


def peak_bytes(op: OpSpec) -> int:
    """Most bytes of float32 activations alive at once while the operator's layers run one after
    the other, its input and output included: a value lives until its last reader has run.

    In a chain of operators nothing else is alive, so that a network's peak is the largest of its
    operators' (cf. Liberis & Lane, Neural networks on microcontrollers, 2019).
    """
    last_reader = {name: step for step, layer in enumerate(op.layers) for name in layer.inputs}
    sizes = {name: _size(layer.in_shape) for layer in op.layers for name in layer.inputs}
    sizes |= {layer.name: _size(layer.out_shape) for layer in op.layers}
    made = {layer.name: step for step, layer in enumerate(op.layers)}
    last_reader[op.layers[-1].name] = len(op.layers)
    alive = (
        sum(
            size
            for name, size in sizes.items()
            if made.get(name, -1) <= step <= last_reader.get(name, -1)
        )
        for step in range(len(op.layers))
    )
    return 4 * op.batch * max(alive)


def _size(shape: tuple[int, int, int]) -> int:
    height, width, channels = shape
    return height * width * channels
