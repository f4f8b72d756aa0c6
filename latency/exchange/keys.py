"""Keys of other projects' tables to operators and back.

    proxylessnas   expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:3-stride:1-idskip:1
                   Conv, Conv_1 (convolutions), Logits (all that follows Conv_1); relu6
    ofa            expanded_conv-...-expand:240-...-idskip:1-se:0-hs:1 (expand counts channels),
                   Conv, Conv_1, Conv_2, AvgPool2D, Logits; h-swish, and relu where hs is 0

`idskip` is 1 for a block with a residual connection, which ours have wherever shapes allow it.
"""

import re

from latency.errors import SpecError
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec

Ops = tuple[OpSpec, ...]
"""The operators of one key: one, or a pooling and a linear layer."""

_NUMBER = r"[1-9]\d{0,5}"
_SHAPE = rf"(?:{_NUMBER}x{_NUMBER}x)?{_NUMBER}"
_KEY = re.compile(
    rf"(?P<kind>\w+)-input:(?P<input>{_SHAPE})-output:(?P<output>{_SHAPE})"
    rf"(?P<block>-expand:(?P<expand>{_NUMBER})-kernel:(?P<kernel>{_NUMBER})"
    rf"-stride:(?P<stride>{_NUMBER})-idskip:[01](?P<ofa>-se:(?P<se>[01])-hs:(?P<hs>[01]))?)?",
    re.ASCII,
)
_KINDS = {
    "proxylessnas": ("expanded_conv", "Conv", "Conv_1", "Logits"),
    "ofa": ("expanded_conv", "Conv", "Conv_1", "Conv_2", "AvgPool2D", "Logits"),
}
FORMATS = tuple(_KINDS)


def ops_of(key: str, format: str) -> Ops:
    """The operators of a key: one, or for `Logits` on an image a pooling and a linear layer.
    Raises `SpecError` if the key is invalid or no `OpSpec` expresses it."""
    parts = _KEY.fullmatch(key)
    if (
        parts is None
        or parts["kind"] not in _KINDS[format]
        or (parts["kind"] == "expanded_conv") != bool(parts["block"])
        or (bool(parts["block"]) and format == "ofa") != bool(parts["ofa"])
    ):
        raise SpecError(f"its keys are {', '.join(_KINDS[format])} with shapes such as 14x14x80")
    ops = _read(parts, format)
    if (written := _written(ops, format)) != key:
        raise SpecError(f"its sizes contradict each other; the nearest key is '{written}'")
    return ops


def key_of(ops: Ops, format: str) -> str:
    """The key of what `ops_of` returns; `SpecError` if the format cannot express the operators."""
    key = _written(ops, format)
    if ops_of(key, format) != ops:
        raise SpecError(f"{format} has no key for {' and '.join(op.key for op in ops)}")
    return key


def _read(parts: re.Match[str], format: str) -> Ops:
    kind, shape, output = parts["kind"], _shape(parts["input"]), _shape(parts["output"])
    height, width, channels = shape
    if kind == "expanded_conv":
        return (_block(parts, format),)
    if kind == "AvgPool2D":
        return (OpSpec("pool", *shape, channels, height),)
    if kind == "Logits":
        if height != width or (format == "ofa" and height > 1):
            raise SpecError("the input of its Logits is a square map, or in ofa a vector")
        linear = OpSpec("linear", 1, 1, channels, output[2])
        return (linear,) if height == 1 else (OpSpec("pool", *shape, channels, height), linear)
    kernel, stride = (3, max(1, round(height / output[0]))) if kind == "Conv" else (1, 1)
    activation = "h_swish" if format == "ofa" else "relu6"
    return (OpSpec("conv", *shape, output[2], kernel, stride, activation=activation),)


def _block(parts: re.Match[str], format: str) -> OpSpec:
    shape, out_channels = _shape(parts["input"]), _shape(parts["output"])[2]
    hidden = int(parts["expand"])
    expansion: float = hidden
    activation, squeeze_excite = "relu6", 0.0
    if format == "ofa":
        expansion = hidden / shape[2]
        activation = "h_swish" if parts["hs"] == "1" else "relu"
        squeeze_excite = _squeezed(hidden) / hidden if parts["se"] == "1" else 0.0
    sizes = (*shape, out_channels, int(parts["kernel"]), int(parts["stride"]))
    return OpSpec("mbconv", *sizes, expansion, activation, squeeze_excite)


def _written(ops: Ops, format: str) -> str:
    op, last = ops[0], ops[-1]
    source = f"input:{op.height}x{op.width}x{op.in_channels}"
    target = "output:" + "x".join(map(str, last.out_shape))
    if last.kind == "linear":
        return f"Logits-{source}-output:{last.out_channels}"
    if op.kind == "conv":
        vector = (op.height, op.width) == (1, 1) and format == "ofa"
        return f"{'Conv' if op.kernel > 1 else 'Conv_2' if vector else 'Conv_1'}-{source}-{target}"
    if op.kind == "pool":
        return f"AvgPool2D-{source}-{target}"
    hidden = max(1, round(op.in_channels * op.expansion))
    expand = f"{hidden}" if format == "ofa" else f"{op.expansion:g}"
    skip = int(op.stride == 1 and op.in_channels == op.out_channels)
    key = f"expanded_conv-{source}-{target}-expand:{expand}-kernel:{op.kernel}-stride:{op.stride}"
    key += f"-idskip:{skip}"
    if format == "ofa":
        key += f"-se:{int(op.squeeze_excite > 0)}-hs:{int(op.activation == 'h_swish')}"
    return key


def _shape(text: str) -> Shape:
    """(height, width, channels) of "14x14x80"; of "1000", one pixel."""
    *sides, channels = map(int, text.split("x"))
    height, width = sides or (1, 1)
    return height, width, channels


def _squeezed(hidden: int) -> int:
    """Channels of squeeze-excite in Once-for-all: a quarter, as a multiple of 8 that is never
    more than 10 % below it."""
    quarter = hidden // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded
