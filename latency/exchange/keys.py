"""Keys of other projects' tables to operators and back.

    proxylessnas   expanded_conv-input:14x14x80-output:14x14x80-expand:3-kernel:3-stride:1-idskip:1
                   Conv, Conv_1 (convolutions), Logits (all that follows Conv_1); relu6
    ofa            expanded_conv-...-expand:240-...-idskip:1-se:0-hs:1 (expand counts channels),
                   Conv, Conv_1, Conv_2, AvgPool2D, Logits; h-swish, and relu where hs is 0

`idskip` says whether a residual is added, which our blocks do wherever shapes allow it.
"""

import re
from collections.abc import Callable, Mapping

from latency.errors import SpecError
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec

FORMATS = ("proxylessnas", "ofa")

Ops = tuple[OpSpec, ...]
"""The operators of one key: one, or a pooling and a linear layer."""

_SHAPE = re.compile(r"(?:([1-9]\d{0,5})x([1-9]\d{0,5})x)?([1-9]\d{0,5})", re.ASCII)
_CONVOLUTIONS = {"Conv": 3, "Conv_1": 1, "Conv_2": 1}
_FIELDS = {
    "proxylessnas": ("input", "output", "expand", "kernel", "stride", "idskip"),
    "ofa": ("input", "output", "expand", "kernel", "stride", "idskip", "se", "hs"),
}


def ops_of(key: str, format: str) -> Ops:
    """The operators of a key: one, or for `Logits` on an image a pooling and a linear
    layer. Raises `SpecError` where no `OpSpec` expresses it."""
    kind, *parts = key.split("-")
    fields = {name: value for name, _, value in (part.partition(":") for part in parts)}
    readers: dict[str, Callable[[Mapping[str, str], str], Ops]] = {
        "expanded_conv": _block,
        "Logits": _logits,
        **{name: _convolution(kernel) for name, kernel in _CONVOLUTIONS.items()},
    }
    if format == "ofa":
        readers["AvgPool2D"] = _pool
    else:
        del readers["Conv_2"]
    if kind not in readers:
        raise SpecError(f"{format} knows {', '.join(sorted(readers))}, not '{kind}'")
    expected = _FIELDS[format] if kind == "expanded_conv" else ("input", "output")
    if tuple(fields) != expected or len(parts) != len(expected):
        raise SpecError(f"expected {kind} with {', '.join(expected)}")
    ops = readers[kind](fields, format)
    _check_output(ops[-1], _shape(fields["output"]))
    return ops


def key_of(ops: Ops, format: str) -> str:
    """The key of what `ops_of` returns; `SpecError` where the format cannot express the
    operators."""
    key = _written(ops, format)
    if ops_of(key, format) != ops:
        raise SpecError(f"{format} has no key for {' and '.join(op.key for op in ops)}")
    return key


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


def _block(fields: Mapping[str, str], format: str) -> Ops:
    height, width, channels = _shape(fields["input"])
    numbers = {name: _whole(fields[name]) for name in fields if name not in ("input", "output")}
    expansion: float = numbers["expand"]
    activation, squeeze_excite = "relu6", 0.0
    if format == "ofa":
        hidden = numbers["expand"]
        expansion = hidden / channels
        activation = "h_swish" if _flag(numbers["hs"]) else "relu"
        squeeze_excite = _squeezed(hidden) / hidden if _flag(numbers["se"]) else 0.0
    out_channels = _shape(fields["output"])[2]
    shape = (height, width, channels, out_channels, numbers["kernel"], numbers["stride"])
    op = OpSpec("mbconv", *shape, expansion, activation, squeeze_excite)
    if _flag(numbers["idskip"]) != (op.stride == 1 and op.in_channels == op.out_channels):
        raise SpecError("idskip contradicts stride and channels")
    return (op,)


def _convolution(kernel: int) -> Callable[[Mapping[str, str], str], Ops]:
    def read(fields: Mapping[str, str], format: str) -> Ops:
        (height, width, channels), wanted = _shape(fields["input"]), _shape(fields["output"])
        stride = max(1, round(height / wanted[0])) if kernel > 1 else 1
        activation = "h_swish" if format == "ofa" else "relu6"
        shape = (height, width, channels, wanted[2], kernel, stride)
        return (OpSpec("conv", *shape, activation=activation),)

    return read


def _pool(fields: Mapping[str, str], format: str) -> Ops:
    height, width, channels = _shape(fields["input"])
    if height != width or _shape(fields["output"])[:2] != (1, 1):
        raise SpecError("only global pooling of a square is known")
    return (OpSpec("pool", height, width, channels, channels, height),)


def _logits(fields: Mapping[str, str], format: str) -> Ops:
    height, width, channels = _shape(fields["input"])
    linear = OpSpec("linear", 1, 1, channels, _shape(fields["output"])[2])
    if (height, width) == (1, 1):
        return (linear,)
    if format == "ofa":
        raise SpecError("Logits of ofa follow a pooling: their input is 1x1")
    if height != width:
        raise SpecError("only global pooling of a square is known")
    return OpSpec("pool", height, width, channels, channels, height), linear


def _check_output(op: OpSpec, stated: Shape) -> None:
    if op.out_shape != stated:
        found, expected = ("x".join(map(str, shape)) for shape in (op.out_shape, stated))
        raise SpecError(f"its output would be {found}, not {expected}")


def _shape(text: str) -> Shape:
    """(height, width, channels) of "14x14x80"; of "1000", one pixel."""
    sizes = _SHAPE.fullmatch(text)
    if sizes is None:
        raise SpecError(f"'{text[:40]}' is not a shape such as 14x14x80")
    return int(sizes[1] or 1), int(sizes[2] or 1), int(sizes[3])


def _whole(text: str) -> int:
    if re.fullmatch(r"0|[1-9]\d{0,5}", text, re.ASCII) is None:
        raise SpecError(f"'{text[:40]}' is not a whole number")
    return int(text)


def _flag(number: int) -> bool:
    if number not in (0, 1):
        raise SpecError(f"{number} is neither 0 nor 1")
    return number == 1


def _squeezed(hidden: int) -> int:
    """Channels of squeeze-excite in Once-for-all: a quarter, as a multiple of 8 that is never
    more than 10 % below it."""
    quarter = hidden // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * quarter else rounded
