"""The fusion rules of a runtime with a per-node profiler, found on small graphs.

A follower that adds no executed node to `conv - X - follower - conv` is fused into X. A kind with
changes of layout around it works on plain tensors; a kind that needs them when it stands alone
works in the runtime's own layout; any other kind takes both.
"""

from collections.abc import Callable, Iterator

from devices.device import Device, Session, Workload
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
    if device.suffix == ".onnx":
        with device.open_session() as session:
            if session.traces:
                return _Probe(session).rules()
    return None


class _Probe:
    """Finds the nodes that a runtime executes of small graphs."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def rules(self) -> Fusion:
        """All rules."""
        pairs = frozenset(self.pairs())
        blocked, either = self.layouts()
        block = self.block() if blocked else 1
        return Fusion(pairs, frozenset(blocked), frozenset(either), block)

    def executed(self, *pieces: Piece, side: int = _SIDE) -> tuple[int, int]:
        """Of a chain of pieces: the number of executed nodes, and of changes of layout."""
        writer = CnnWriter(side, _CHANNELS)
        x = "input"
        for piece in pieces:
            x = piece(writer, x)
        op = OpSpec("conv", side, side, _CHANNELS, _CHANNELS)
        name = "fusion of " + ", ".join(node.op_type for node in writer.nodes)
        nodes = self.session.trace(Workload(name, (op,), writer.model("fusion", x)), 1, 2)
        reorders = sum(node.startswith(_REORDER) for node in nodes)
        return len(nodes) - reorders, reorders

    def pairs(self) -> Iterator[str]:
        for base, piece in _BASES.items():
            alone, _ = self._or_nothing(_conv, piece, _conv)
            for follower in _FOLLOWERS if alone else ():
                together, _ = self._or_nothing(_conv, piece, _following(follower), _conv)
                if together == alone:
                    yield f"{base}+{follower}"
        for base, piece in _FLAT_BASES.items():
            alone, _ = self._or_nothing(_flat, piece)
            for follower in _FOLLOWERS[1:] if alone else ():
                together, _ = self._or_nothing(_flat, piece, _following(follower))
                if together == alone:
                    yield f"{base}+{follower}"
        if self._or_nothing(_conv, _conv_add, _conv)[0] == self._or_nothing(_conv, _conv, _conv)[0]:
            yield "conv+add"
        if self._or_nothing(_conv, _pad, _conv)[0] == self._or_nothing(_conv, _conv)[0]:
            yield "pad+conv"
        turned, reordered = self._or_nothing(_conv, CnnWriter.channels_last, _layer_norm)
        if turned and reordered and turned == self._or_nothing(_conv, _layer_norm)[0]:
            yield "reorder+transpose"

    def layouts(self) -> tuple[set[str], set[str]]:
        """Kinds that work in the runtime's own layout, and kinds that take any layout."""
        usual = self._or_nothing(_conv, _conv)[1]
        blocked: set[str] = set()
        either: set[str] = set()
        if not usual:
            return blocked, either
        for kind, piece in {**_BASES, **_OTHERS}.items():
            nodes, between = self._or_nothing(_conv, piece, _conv)
            if not nodes or between > usual:
                continue
            own = kind.startswith("conv") or self._or_nothing(_ALONE.get(kind, piece))[1]
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

    def _or_nothing(self, *pieces: Piece) -> tuple[int, int]:
        """`executed`; (0, 0) where the runtime cannot execute it."""
        try:
            return self.executed(*pieces)
        except WorkloadError:
            return 0, 0


def _conv(writer: CnnWriter, x: str) -> str:
    return writer.conv(x, _CHANNELS, 3, activation="none")


def _conv_add(writer: CnnWriter, x: str) -> str:
    return writer.node("Add", [_conv(writer, x), x])


def _pad(writer: CnnWriter, x: str) -> str:
    channels, side = writer.shapes[x]
    pads = writer.constant([0, 0, 1, 1, 0, 0, 1, 1])
    return writer.node("Pad", [x, pads], shape=(channels, side + 2))


def _layer_norm(writer: CnnWriter, x: str) -> str:
    return writer.layer_norm(x, _CHANNELS if x.startswith("Transpose") else _SIDE)


def _flat(writer: CnnWriter, x: str) -> str:
    return writer.node("Flatten", [writer.pooled(x)])


def _following(activation: str) -> Piece:
    def follow(writer: CnnWriter, x: str) -> str:
        if activation == "norm":
            return writer.norm(x, activation="none")
        return writer.activate(x, activation)

    return follow


_BASES: dict[str, Piece] = {
    "conv": _conv,
    "conv_add": _conv_add,
    "norm": lambda writer, x: writer.norm(writer.max_pool(x, 3, 1), activation="none"),
    "add": lambda writer, x: writer.node(
        "Add", [writer.max_pool(x, 3, 1), writer.average_pool(x, 1)]
    ),
}
"""Pieces that may fuse a follower, between two convolutions."""

_FLAT_BASES: dict[str, Piece] = {
    "linear": lambda writer, x: writer.linear(x, writer.shapes[x][0], _CHANNELS),
    "matmul": lambda writer, x: writer.project(x, writer.shapes[x][0], _CHANNELS, 1),
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
    "resize": CnnWriter.double,
    "conv_transpose": lambda writer, x: writer.conv_transpose(x, _CHANNELS),
}

_ALONE: dict[str, Piece] = {
    "norm": lambda writer, x: writer.norm(x, activation="none"),
    "add": lambda writer, x: writer.node("Add", [x, x]),
    "multiply": lambda writer, x: writer.node("Mul", [x, x]),
    "concat": lambda writer, x: writer.concat([x, x]),
}
"""The same without kernels of other kinds for their second input."""
