"""One decomposition, many readers: each operator kind as primitive layers, known here alone.

MACs, parameters, bytes, the torch module (`latency.modules`) and the exported graph
(`devices.export`) all read these layers, so that the operator measured is the operator
searched is the operator deployed. A new kind is one function in `KINDS`.

Layers name their inputs, so a kind may branch and join (residual, squeeze-excite, and the
nested copy/split/add cells of tree-structured spaces):

    mbconv, stride 1, equal channels           input ──┬─ expand ─ depthwise ─ project ─ add
                                                       └────────────────────────────────┘
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latency.errors import SpecError

if TYPE_CHECKING:
    from latency.ops import OpSpec

Shape = tuple[int, int, int]
"""(height, width, channels)"""

INPUT, OTHER = "input", "other"
"""The names by which a layer refers to its operator's input, and to the second one that some
kinds have (`other_shape`)."""

CHANNELS_LAST = ("matmul", "layer_norm", "softmax")
"""Layers that work along the channels, which runtimes have last there."""

STANDS_ALONE = ("transpose", "reorder")
"""Kinds of operators that are in no chain with others, as those with a second input are not."""

ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "silu", "sigmoid", "gelu")


@dataclass(frozen=True)
class Layer:
    """A primitive: `conv`, `conv_transpose`, `linear`, `matmul` (mixes the channels of each
    pixel), `pool` (average), `max_pool`, `add` or `multiply` (broadcasting), `norm` (batch norm
    that stands alone: scale and shift a channel), `layer_norm` (over channels), `concat` and
    `slice` (the first ones) of channels, `transpose` (to channels last), `resize` (nearest, by
    `stride`), `softmax` (over channels), `reorder` (to a runtime's own layout), or `identity`.

    `norm`: followed by batch norm (which a deployed graph folds); else what has a weight has a
    bias, too. `activation` is applied last.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    groups: int = 1
    norm: bool = False
    activation: str = "none"
    dilation: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as torch and ONNX store it; () where there is none."""
        inside, outside = self.in_shape[2], self.out_shape[2]
        if self.kind == "conv":
            return (outside, inside // self.groups, *self.kernel)
        if self.kind == "conv_transpose":
            return (inside, outside, *self.kernel)
        if self.kind in ("linear", "matmul"):
            return (outside, inside)
        if self.kind in ("norm", "layer_norm"):
            return (outside,)
        return ()

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of a convolution: half of an odd kernel on each side; of an
        even one what the output needs, the greater half below and to the right."""
        before, after = [], []
        for axis in (0, 1):
            reach = (self.kernel[axis] - 1) * self.dilation + 1
            if reach % 2:
                total = reach - 1
            else:
                total = max(0, (self.out_shape[axis] - 1) * self.stride + reach)
                total = max(0, total - self.in_shape[axis])
            before.append(total // 2)
            after.append(total - total // 2)
        return (before[0], before[1], after[0], after[1])

    @property
    def trimming(self) -> tuple[int, int]:
        """How many rows, and columns, a transposed convolution cuts off before and after the sum
        of its windows, so that `stride` times its input is left; less than none adds zeros."""
        total = self.kernel[0] - self.stride
        before = max(0, total - total // 2)
        return before, total - before

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        if self.kind == "conv_transpose":
            return self.in_shape[0] * self.in_shape[1] * _product(self.weight_shape)
        if self.kind in ("norm", "layer_norm"):
            return 0
        return self.out_shape[0] * self.out_shape[1] * _product(self.weight_shape)

    @property
    def params(self) -> int:
        """Weights, plus scale and shift of batch norm or a bias."""
        if not self.weight_shape:
            return 0
        return _product(self.weight_shape) + self.out_shape[2] * (2 if self.norm else 1)

    @property
    def activations(self) -> int:
        """Numbers read and written for one sample, weights left out."""
        if self.kind == "concat":
            return 2 * _product(self.out_shape)
        if self.kind == "slice":
            return 2 * _product(self.out_shape)
        return _product(self.in_shape) * len(self.inputs) + _product(self.out_shape)


def decompose(op: "OpSpec") -> tuple[Layer, ...]:
    """The layers of an operator, in an order in which they can be executed."""
    return KINDS[op.kind](op)


def check(op: "OpSpec") -> None:
    """Raise `SpecError` where the operator's sizes contradict its kind."""
    if op.kind not in ("conv", "conv_add") and (op.groups, op.dilation) != (1, 1):
        raise SpecError(f"{op.key}: only a convolution has groups and dilation")
    if op.in_channels % op.groups or op.out_channels % op.groups:
        raise SpecError(f"{op.key}: the groups do not divide the channels")
    if op.kind in _KEEP_CHANNELS and op.out_channels != op.in_channels:
        raise SpecError(f"{op.key}: a {op.kind} keeps its channels")
    if op.kind == "pool" and op.kernel > min(op.height, op.width):
        raise SpecError(f"{op.key}: the pooling window is larger than the input")
    padded = 2 * ((op.kernel - 1) // 2) + min(op.height, op.width)
    if op.kind == "max_pool" and op.kernel > padded:
        raise SpecError(f"{op.key}: the pooling window is larger than the padded input")
    if op.kind in _POINTWISE and (op.kernel, op.stride) != (1, 1):
        raise SpecError(f"{op.key}: a {op.kind} has neither kernel nor stride")
    if op.kind == "resize" and op.kernel != 1:
        raise SpecError(f"{op.key}: a resize has no kernel")
    if op.kind == "conv_transpose" and op.stride == 1 and op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: a transposed convolution of stride 1 has an odd kernel")
    if op.kind == "linear" and (op.height, op.width, op.kernel, op.stride) != (1, 1, 1, 1):
        raise SpecError(f"{op.key}: a linear layer works on 1x1 inputs (pool first)")
    if op.kind == "mbconv" and op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: the kernel of a padded convolution is odd")
    if op.kind == "concat" and op.out_channels <= op.in_channels:
        raise SpecError(f"{op.key}: a concatenation adds channels")
    if op.kind == "slice" and op.out_channels > op.in_channels:
        raise SpecError(f"{op.key}: a slice has no more channels than its input")
    if op.kind == "activation" and op.activation == "none":
        raise SpecError(f"{op.key}: an activation names its function")


def other_shape(op: "OpSpec") -> Shape | None:
    """Shape of the operator's second input, None where it has just one."""
    if op.kind in ("add", "multiply"):
        return (op.height, op.width, op.in_channels)
    if op.kind == "scale":
        return (1, 1, op.in_channels)
    if op.kind == "concat":
        return (op.height, op.width, op.out_channels - op.in_channels)
    if op.kind == "conv_add":
        return op.out_shape
    return None


def _conv(op: "OpSpec") -> tuple[Layer, ...]:
    """Convolution, batch norm, activation."""
    chain = _Chain(op)
    chain.conv(
        "conv",
        op.out_channels,
        op.kernel,
        op.stride,
        op.groups,
        activation=op.activation,
        dilation=op.dilation,
    )
    return chain.layers


def _conv_add(op: "OpSpec") -> tuple[Layer, ...]:
    """Convolution and batch norm, added to a second input; activation."""
    chain = _Chain(op)
    chain.conv("conv", op.out_channels, op.kernel, op.stride, op.groups, dilation=op.dilation)
    chain.join("add", "add", OTHER, op.activation)
    return chain.layers


def _conv_transpose(op: "OpSpec") -> tuple[Layer, ...]:
    """Transposed convolution that enlarges its input `stride` times; activation."""
    chain = _Chain(op)
    shape = (op.height * op.stride, op.width * op.stride, op.out_channels)
    chain.primitive("conv_transpose", shape, op.kernel, op.stride, op.activation)
    return chain.layers


def _mbconv(op: "OpSpec") -> tuple[Layer, ...]:
    """Inverted bottleneck (Sandler et al., MobileNetV2, CVPR 2018): expansion 1x1 (left out
    where the ratio is 1), depthwise kxk, optional squeeze-excite, linear projection 1x1, and
    the residual where input and output have one shape."""
    chain = _Chain(op)
    hidden = max(1, round(op.in_channels * op.expansion))
    if hidden != op.in_channels:
        chain.conv("expand", hidden, activation=op.activation)
    squeezed = max(1, round(hidden * op.squeeze_excite)) if op.squeeze_excite else 0
    chain.conv("depthwise", hidden, op.kernel, op.stride, groups=hidden, activation=op.activation)
    if squeezed:
        chain.squeeze_excite(squeezed)
    chain.conv("project", op.out_channels)
    if op.stride == 1 and op.in_channels == op.out_channels:
        chain.join("add", "add", INPUT)
    return chain.layers


def _pool(op: "OpSpec") -> tuple[Layer, ...]:
    """Average pooling without padding; a window of the input's size is global pooling."""
    chain = _Chain(op)
    chain.pool("pool", (op.kernel, op.kernel), op.stride, op.activation)
    return chain.layers


def _linear(op: "OpSpec") -> tuple[Layer, ...]:
    """Fully connected layer with bias."""
    chain = _Chain(op)
    chain.linear("linear", op.out_channels, op.activation)
    return chain.layers


def _max_pool(op: "OpSpec") -> tuple[Layer, ...]:
    """Max pooling, padded on each side by half of what the kernel has more than one pixel."""
    chain = _Chain(op)
    padding = 2 * ((op.kernel - 1) // 2)
    height, width = (
        (size + padding - op.kernel) // op.stride + 1 for size in (op.height, op.width)
    )
    shape = (height, width, op.in_channels)
    chain.primitive("max_pool", shape, op.kernel, op.stride, op.activation)
    return chain.layers


def _resize(op: "OpSpec") -> tuple[Layer, ...]:
    """Nearest neighbours, to `stride` times height and width."""
    chain = _Chain(op)
    shape = (op.height * op.stride, op.width * op.stride, op.in_channels)
    chain.primitive("resize", shape, 1, op.stride, op.activation)
    return chain.layers


def _join(kind: str) -> Callable[["OpSpec"], tuple[Layer, ...]]:
    """Two inputs into one, by the layer `kind`; activation."""

    def decompose_join(op: "OpSpec") -> tuple[Layer, ...]:
        chain = _Chain(op)
        chain.join(kind, kind, OTHER, op.activation, op.out_channels)
        return chain.layers

    return decompose_join


def _pointwise(kind: str) -> Callable[["OpSpec"], tuple[Layer, ...]]:
    """One layer of `kind` that keeps height and width; activation."""

    def decompose_pointwise(op: "OpSpec") -> tuple[Layer, ...]:
        chain = _Chain(op)
        shape = (op.height, op.width, op.out_channels)
        chain.primitive(kind, shape, activation=op.activation)
        return chain.layers

    return decompose_pointwise


_KEEP_CHANNELS = (
    *("pool", "max_pool", "activation", "add", "multiply", "scale", "norm", "layer_norm"),
    *("transpose", "resize", "softmax", "reorder"),
)

_POINTWISE = (
    *("matmul", "activation", "add", "multiply", "scale", "norm", "layer_norm", "concat"),
    *("slice", "transpose", "softmax", "reorder"),
)

KINDS: dict[str, Callable[["OpSpec"], tuple[Layer, ...]]] = {
    "conv": _conv,
    "mbconv": _mbconv,
    "pool": _pool,
    "linear": _linear,
    "conv_add": _conv_add,
    "conv_transpose": _conv_transpose,
    "matmul": _pointwise("matmul"),
    "max_pool": _max_pool,
    "activation": _pointwise("identity"),
    "add": _join("add"),
    "multiply": _join("multiply"),
    "scale": _join("multiply"),
    "norm": _pointwise("norm"),
    "layer_norm": _pointwise("layer_norm"),
    "concat": _join("concat"),
    "slice": _pointwise("slice"),
    "transpose": _pointwise("transpose"),
    "resize": _resize,
    "softmax": _pointwise("softmax"),
    "reorder": _pointwise("reorder"),
}
"""Operator kind to the function that decomposes it."""


class _Chain:
    """Appends layers, each reading the one before it, and keeps track of the shape."""

    def __init__(self, op: "OpSpec") -> None:
        self.layers: tuple[Layer, ...] = ()
        self.last = INPUT
        self.shape: Shape = (op.height, op.width, op.in_channels)

    def _append(self, layer: Layer) -> None:
        self.layers += (layer,)
        self.last, self.shape = layer.name, layer.out_shape

    def conv(
        self,
        name: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: str = "none",
        dilation: int = 1,
    ) -> None:
        height, width, _ = self.shape
        out_shape = (-(-height // stride), -(-width // stride), channels)
        self._append(
            Layer(
                name,
                "conv",
                (self.last,),
                self.shape,
                out_shape,
                kernel=(kernel, kernel),
                stride=stride,
                groups=groups,
                norm=norm,
                activation=activation,
                dilation=dilation,
            )
        )

    def primitive(
        self,
        kind: str,
        out_shape: Shape,
        kernel: int = 1,
        stride: int = 1,
        activation: str = "none",
    ) -> None:
        """A layer named as its kind."""
        inputs = (self.last,)
        sizes = (self.shape, out_shape, (kernel, kernel), stride)
        self._append(Layer(kind, kind, inputs, *sizes, activation=activation))

    def pool(
        self, name: str, kernel: tuple[int, int], stride: int, activation: str = "none"
    ) -> None:
        height, width, channels = self.shape
        out_height = (height - kernel[0]) // stride + 1
        out_width = (width - kernel[1]) // stride + 1
        self._append(
            Layer(
                name,
                "pool",
                (self.last,),
                self.shape,
                (out_height, out_width, channels),
                kernel=kernel,
                stride=stride,
                activation=activation,
            )
        )

    def linear(self, name: str, channels: int, activation: str) -> None:
        self._append(
            Layer(
                name,
                "linear",
                (self.last,),
                self.shape,
                (1, 1, channels),
                activation=activation,
            )
        )

    def join(
        self,
        name: str,
        kind: str,
        other: str,
        activation: str = "none",
        channels: int | None = None,
    ) -> None:
        out_shape = (*self.shape[:2], channels or self.shape[2])
        inputs = (self.last, other)
        self._append(Layer(name, kind, inputs, self.shape, out_shape, activation=activation))

    def squeeze_excite(self, squeezed: int) -> None:
        """Hu et al., CVPR 2018, with the hard sigmoid of MobileNetV3."""
        excited, shape = self.last, self.shape
        self.pool("squeeze", shape[:2], 1)
        self.conv("reduce", squeezed, norm=False, activation="relu")
        self.conv("excite", shape[2], norm=False, activation="h_sigmoid")
        gate = self.last
        self.last, self.shape = excited, shape
        self.join("scale", "multiply", gate)


def _product(sizes: tuple[int, ...]) -> int:
    if not sizes:
        return 0
    total = 1
    for size in sizes:
        total *= size
    return total
