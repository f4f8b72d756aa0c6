"""The fusion rules of a runtime with a per-node profiler, found on small graphs.

A follower that adds no executed node to `conv - X - follower - conv` is fused into X. A kind with
changes of layout around it works on plain tensors; a kind that needs them when it stands alone
works in the runtime's own layout; any other kind takes both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from devices.device import Device, Tracer, Workload, tracer
from devices.kernel_suite.cnn_writer import CnnWriter
from latency.errors import WorkloadError
from latency.graphs.fusion import Fusion
from latency.operators.spec import OpSpec

_CHANNELS, _SIDE = 32, 14
_FOLLOWERS = ("norm", "relu", "relu6", "h_swish", "silu", "sigmoid", "h_sigmoid", "gelu")
_REORDER = "Reorder"
"""Prefix of nodes that a runtime inserts to change the layout."""

Piece = Callable[[CnnWriter, str], str]
"""Appends nodes that read a tensor; returns the tensor that they write."""


def traced_fusion(device: Device) -> Fusion | None:
    """The rules of a runtime of ONNX files; None without a per-node profiler. Raises `DeviceError`
    where the device fails."""
    if device.suffix != ".onnx":
        return None
    with device.open_session() as session:
        traced = tracer(session)
        return _Probe(traced).rules() if traced else None


@dataclass(frozen=True)
class _Probe:
    """Finds the nodes that a runtime executes of small graphs."""

    session: Tracer

    def rules(self) -> Fusion:
        pairs = frozenset(self.pairs())
        blocked, either = self.layouts()
        block = self.block() if blocked else 1
        return Fusion(pairs, frozenset(blocked), frozenset(either), block)

    def executed(self, *pieces: Piece) -> tuple[int, int]:
        """The number of executed nodes of a chain of pieces, and of changes of layout; (0, 0) if
        the runtime cannot execute it."""
        writer = CnnWriter(_SIDE, _CHANNELS)
        x = "input"
        for piece in pieces:
            x = piece(writer, x)
        op = OpSpec("conv", _SIDE, _SIDE, _CHANNELS, _CHANNELS)
        name = "fusion of " + ", ".join(node.op_type for node in writer.nodes)
        try:
            nodes = self.session.trace(Workload(name, (op,), writer.model("fusion", x)), 1, 2)
        except WorkloadError:
            return 0, 0
        reorders = sum(node.startswith(_REORDER) for node in nodes)
        return len(nodes) - reorders, reorders

    def nodes(self, *pieces: Piece) -> int:
        """The number of executed nodes of a chain of pieces, without changes of layout."""
        return self.executed(*pieces)[0]

    def pairs(self) -> Iterator[str]:
        for base, piece in _BASES.items():
            yield from self.fused(base, (_conv, piece), _FOLLOWERS, (_conv,))
        for base, piece in _FLAT_BASES.items():
            yield from self.fused(base, (_flat, piece), _FOLLOWERS[1:], ())
        if self.nodes(_conv, _conv_add, _conv) == self.nodes(_conv, _conv, _conv):
            yield "conv+add"
        if self.nodes(_conv, _pad, _conv) == self.nodes(_conv, _conv):
            yield "pad+conv"
        transposed, reordered = self.executed(_conv, CnnWriter.channels_last, _layer_norm)
        if transposed and reordered and transposed == self.nodes(_conv, _layer_norm):
            yield "reorder+transpose"

    def fused(
        self, base: str, before: tuple[Piece, ...], names: tuple[str, ...], after: tuple[Piece, ...]
    ) -> Iterator[str]:
        """Pairs of `base`, the last piece of `before`, and followers that add no node."""
        alone = self.nodes(*before, *after)
        for name in names if alone else ():
            if self.nodes(*before, _following(name), *after) == alone:
                yield f"{base}+{name}"

    def layouts(self) -> tuple[set[str], set[str]]:
        """Kinds that work in the runtime's own layout, and kinds that take any layout."""
        usual = self.executed(_conv, _conv)[1]
        blocked: set[str] = set()
        either: set[str] = set()
        for kind, piece in {**_BASES, **_OTHERS}.items() if usual else ():
            nodes, inside = self.executed(_conv, piece, _conv)
            if not nodes or inside > usual:
                continue
            own = kind.startswith("conv") or self.executed(_ALONE.get(kind, piece))[1]
            (blocked if own else either).add(kind)
        return blocked, either

    def block(self) -> int:
        """The number of channels per block of the runtime's own layout."""
        for block in (8, 16):

            def join(writer: CnnWriter, x: str, channels: int = block) -> str:
                return writer.concat([x, writer.conv(x, channels, 1)])

            if self.executed(_conv, join, _conv)[1] <= self.executed(_conv, _conv)[1]:
                return block
        return 32


def _conv(writer: CnnWriter, x: str) -> str:
    return writer.conv(x, _CHANNELS, 3, activation="none")


def _conv_add(writer: CnnWriter, x: str) -> str:
    return writer.node("Add", [_conv(writer, x), x])


def _conv_transpose(writer: CnnWriter, x: str) -> str:
    weight = writer.constant(writer.normal((_CHANNELS, _CHANNELS, 2, 2)))
    return writer.node("ConvTranspose", [x, weight], kernel_shape=[2, 2], strides=[2, 2])


def _pad(writer: CnnWriter, x: str) -> str:
    return writer.node("Pad", [x, writer.constant([0, 0, 1, 1, 0, 0, 1, 1])])


def _layer_norm(writer: CnnWriter, x: str) -> str:
    return writer.layer_norm(x, _CHANNELS if x.startswith("Transpose") else _SIDE)


def _flat(writer: CnnWriter, x: str) -> str:
    return writer.node("Flatten", [writer.pooled(x)])


def _following(name: str) -> Piece:
    if name == "norm":
        return lambda writer, x: writer.norm(x, activation="none")
    return lambda writer, x: writer.activate(x, name)


_BASES: dict[str, Piece] = {
    "conv": _conv,
    "conv_add": _conv_add,
    "norm": lambda writer, x: writer.norm(writer.max_pool(x, 3, 1), activation="none"),
    "add": lambda writer, x: writer.node(
        "Add", [writer.max_pool(x, 3, 1), writer.average_pool(x, 1)]
    ),
}
"""Pieces that may fuse a follower, with a convolution before and after."""

_FLAT_BASES: dict[str, Piece] = {
    "linear": lambda writer, x: writer.linear(x, _CHANNELS),
    "matmul": lambda writer, x: writer.project(x, _CHANNELS),
}
"""Pieces that may fuse a follower, on flat tensors."""

_OTHERS: dict[str, Piece] = {
    "max_pool": lambda writer, x: writer.max_pool(x, 3, 1),
    "pool": lambda writer, x: writer.average_pool(x, 1),
    "activation": lambda writer, x: writer.activate(writer.activate(x, "silu"), "gelu"),
    "multiply": lambda writer, x: writer.node("Mul", [x, writer.max_pool(x, 3, 1)]),
    "scale": lambda writer, x: writer.node("Mul", [x, writer.pooled(x)]),
    "concat": lambda writer, x: writer.concat([x, writer.max_pool(x, 3, 1)]),
    "slice": lambda writer, x: writer.halves(x)[0],
    "softmax": lambda writer, x: writer.node("Softmax", [x], axis=1),
    "resize": lambda writer, x: writer.upsample(x, 2),
    "conv_transpose": _conv_transpose,
}

_ALONE: dict[str, Piece] = {
    "norm": lambda writer, x: writer.norm(x, activation="none"),
    "add": lambda writer, x: writer.node("Add", [x, x]),
    "multiply": lambda writer, x: writer.node("Mul", [x, x]),
    "concat": lambda writer, x: writer.concat([x, x]),
}
"""The same without kernels of other kinds for their second input."""
