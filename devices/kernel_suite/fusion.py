"""The fusion rules of a runtime, found on small graphs.

With a per-node profiler, nodes are counted: a follower that adds no executed node to
`conv - X - follower - conv` is fused into X. A kind with changes of layout around it works on plain
tensors; a kind that needs them when it stands alone works in the runtime's own layout; any other
kind takes both.

Without one, pairs are timed together and apart: an activation that adds less than half of its time
alone is fused. The fastest runs are compared, since other load on the device only adds time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from devices.card import Measuring
from devices.device import Device, Session, Workload
from devices.kernel_suite.cnn_writer import CnnWriter
from devices.measuring.rounds import Keeper, measure
from latency.errors import WorkloadError
from latency.graphs.fusion import USUAL, Fusion
from latency.operators.kinds import ACTIVATIONS
from latency.operators.spec import OpSpec

_BASE_OPS = {kind: OpSpec(kind, 112, 112, 16, 64, 1, 1) for kind in ("conv", "conv_add", "matmul")}
"""Cheap operators with a large output, which takes long to process again."""
_ALONE_OPS = {
    name: OpSpec("activation", 112, 112, 64, 64, 1, 1, activation=name)
    for name in ACTIVATIONS
    if name != "none"
}
_MOST = 0.5
_MEASURING = Measuring(
    ci95=0.02, sessions=2, max_sessions=3, min_samples=8, max_samples=24, sample_ms=4, seconds=10
)

_CHANNELS, _SIDE = 32, 14
_FOLLOWERS = ("norm", "relu", "relu6", "h_swish", "silu", "sigmoid", "h_sigmoid", "gelu")
_REORDER = "Reorder"
"""Prefix of nodes that a runtime inserts to change the layout."""

Piece = Callable[[CnnWriter, str], str]
"""Appends nodes that read a tensor; returns the tensor that they write."""


def timed_operators() -> list[OpSpec]:
    """Activations, bases that may fuse them, and both together."""
    ops = list(_ALONE_OPS.values())
    for base in _BASE_OPS.values():
        ops += [base, *(replace(base, activation=name) for name in _ALONE_OPS)]
    return ops


def timed_fusion(device: Device, journal: Keeper | None = None) -> Fusion:
    """The pairs that a runtime fuses; the usual rule for pairs that cannot be timed. Raises
    `DeviceError` where the device fails."""
    ops = timed_operators()
    measured = measure(device, [Workload.of_op(op) for op in ops], _MEASURING, journal)
    ms = {op: measured.rows[op.key].min_ms for op in ops if op.key in measured.rows}
    fused = dict.fromkeys(USUAL.pairs, True)
    for kind, base in _BASE_OPS.items():
        for name, alone in _ALONE_OPS.items():
            together = replace(base, activation=name)
            if {base, together, alone} <= ms.keys():
                fused[f"{kind}+{name}"] = ms[together] - ms[base] < _MOST * ms[alone]
    return replace(USUAL, pairs=frozenset(pair for pair in fused if fused[pair]))


def traced_fusion(device: Device) -> Fusion | None:
    """The rules of a runtime of ONNX files; None without a per-node profiler. Raises `DeviceError`
    where the device fails."""
    if device.suffix != ".onnx":
        return None
    with device.open_session() as session:
        return _Probe(session).rules() if session.traces else None


@dataclass(frozen=True)
class _Probe:
    """Counts the nodes that a runtime executes of small graphs."""

    session: Session

    def rules(self) -> Fusion:
        layouts = dict(self.layouts())
        blocked = frozenset(kind for kind, is_own in layouts.items() if is_own)
        block = self.block() if blocked else 1
        return Fusion(frozenset(self.pairs()), blocked, frozenset(layouts) - blocked, block)

    def executed(self, *pieces: Piece) -> tuple[int, int]:
        """The number of executed nodes of a chain of pieces, and of changes of layout; (0, 0) if
        the runtime cannot execute it."""
        writer = CnnWriter(_SIDE, _CHANNELS)
        x = "input"
        for piece in pieces:
            x = piece(writer, x)
        op = OpSpec("conv", _SIDE, _SIDE, _CHANNELS, _CHANNELS)
        workload = Workload("fusion", (op,), writer.model("fusion", x))
        try:
            nodes = self.session.trace(workload, 1, 2)
        except WorkloadError:
            return 0, 0
        reorders = sum(node.startswith(_REORDER) for node in nodes)
        return len(nodes) - reorders, reorders

    def nodes(self, *pieces: Piece) -> int:
        """Executed nodes without changes of layout."""
        return self.executed(*pieces)[0]

    def pairs(self) -> Iterator[str]:
        chains: list[tuple[str, list[Piece], list[Piece]]]
        chains = [(base, [_conv, piece], [_conv]) for base, piece in _BASES.items()]
        chains += [(base, [_flat, piece], []) for base, piece in _FLAT_BASES.items()]
        for base, before, after in chains:
            alone = self.nodes(*before, *after)
            for name in _FOLLOWERS if alone else ():
                if name == "norm" and base in _FLAT_BASES:
                    continue
                if self.nodes(*before, _follower(name), *after) == alone:
                    yield f"{base}+{name}"
        if self.nodes(_conv, _conv_add, _conv) == self.nodes(_conv, _conv, _conv):
            yield "conv+add"
        if self.nodes(_conv, _pad, _conv) == self.nodes(_conv, _conv):
            yield "pad+conv"
        transposed, reordered = self.executed(_conv, CnnWriter.channels_last, _layer_norm)
        if transposed and reordered and transposed == self.nodes(_conv, _layer_norm):
            yield "reorder+transpose"

    def layouts(self) -> Iterator[tuple[str, bool]]:
        """Kinds that take the runtime's own layout, and whether they work in no other."""
        usual = self.executed(_conv, _conv)[1]
        for kind, piece in {**_BASES, **_OTHERS}.items() if usual else ():
            nodes, inside = self.executed(_conv, piece, _conv)
            if nodes and inside <= usual:
                alone = self.executed(_ALONE.get(kind, piece))[1]
                yield kind, kind.startswith("conv") or alone > 0

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


def _norm(writer: CnnWriter, x: str) -> str:
    return writer.norm(x, activation="none")


def _max_pool(writer: CnnWriter, x: str) -> str:
    return writer.max_pool(x, 3, 1)


def _pad(writer: CnnWriter, x: str) -> str:
    return writer.node("Pad", [x, writer.constant([0, 0, 1, 1, 0, 0, 1, 1])])


def _layer_norm(writer: CnnWriter, x: str) -> str:
    return writer.layer_norm(x, _CHANNELS if x.startswith("Transpose") else _SIDE)


def _flat(writer: CnnWriter, x: str) -> str:
    return writer.node("Flatten", [writer.pooled(x)])


def _follower(name: str) -> Piece:
    return _norm if name == "norm" else lambda writer, x: writer.activate(x, name)


_BASES: dict[str, Piece] = {
    "conv": _conv,
    "conv_add": _conv_add,
    "norm": lambda writer, x: _norm(writer, _max_pool(writer, x)),
    "add": lambda writer, x: writer.node("Add", [_max_pool(writer, x), writer.average_pool(x, 1)]),
}
"""Pieces that may fuse a follower, with a convolution before and after."""

_FLAT_BASES: dict[str, Piece] = {
    "linear": lambda writer, x: writer.linear(x, _CHANNELS),
    "matmul": lambda writer, x: writer.project(x, _CHANNELS),
}
"""Pieces that may fuse a follower, on flat tensors."""

_OTHERS: dict[str, Piece] = {
    "max_pool": _max_pool,
    "pool": lambda writer, x: writer.average_pool(x, 1),
    "activation": lambda writer, x: writer.activate(writer.activate(x, "silu"), "gelu"),
    "multiply": lambda writer, x: writer.node("Mul", [x, _max_pool(writer, x)]),
    "scale": lambda writer, x: writer.node("Mul", [x, writer.pooled(x)]),
    "concat": lambda writer, x: writer.concat([x, _max_pool(writer, x)]),
    "slice": lambda writer, x: writer.halves(x)[0],
    "softmax": lambda writer, x: writer.node("Softmax", [x], axis=1),
    "resize": lambda writer, x: writer.upsample(x, 2),
    "conv_transpose": _conv_transpose,
}

_ALONE: dict[str, Piece] = {
    "norm": _norm,
    "add": lambda writer, x: writer.node("Add", [x, x]),
    "multiply": lambda writer, x: writer.node("Mul", [x, x]),
    "concat": lambda writer, x: writer.concat([x, x]),
}
"""The same without kernels of other kinds for their second input."""
