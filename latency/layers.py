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

INPUT = "input"
"""The name by which a layer refers to its operator's input."""

ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "silu", "sigmoid")


@dataclass(frozen=True)
class Layer:
    """A primitive: `conv`, `linear`, `pool` (average), `add` or `multiply` (broadcasting).

    A convolution is padded by half of its kernel. `norm`: followed by batch norm (which a
    deployed graph folds); else a convolution or linear layer has a bias. `activation` is
    applied last.
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

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight as torch and ONNX store it; () where there is none."""
        if self.kind == "conv":
            return (self.out_shape[2], self.in_shape[2] // self.groups, *self.kernel)
        if self.kind == "linear":
            return (self.out_shape[2], self.in_shape[2])
        return ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
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
        return _product(self.in_shape) * len(self.inputs) + _product(self.out_shape)


def decompose(op: "OpSpec") -> tuple[Layer, ...]:
    """The layers of an operator, in an order in which they can be executed."""
    return KINDS[op.kind](op)


def check(op: "OpSpec") -> None:
    """Raise `SpecError` where the operator's sizes contradict its kind."""
    if op.kind == "pool":
        if op.out_channels != op.in_channels:
            raise SpecError(f"{op.key}: a pooling keeps its channels")
        if op.kernel > min(op.height, op.width):
            raise SpecError(f"{op.key}: the pooling window is larger than the input")
    elif op.kind == "linear":
        if (op.height, op.width, op.kernel, op.stride) != (1, 1, 1, 1):
            raise SpecError(f"{op.key}: a linear layer works on 1x1 inputs (pool first)")
    elif op.kernel % 2 == 0:
        raise SpecError(f"{op.key}: the kernel of a padded convolution is odd")


def _conv(op: "OpSpec") -> tuple[Layer, ...]:
    """Convolution, batch norm, activation."""
    chain = _Chain(op)
    chain.conv("conv", op.out_channels, op.kernel, op.stride, activation=op.activation)
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
    chain.pool("pool", (op.kernel, op.kernel), op.stride)
    return chain.layers


def _linear(op: "OpSpec") -> tuple[Layer, ...]:
    """Fully connected layer with bias."""
    chain = _Chain(op)
    chain.linear("linear", op.out_channels, op.activation)
    return chain.layers


KINDS: dict[str, Callable[["OpSpec"], tuple[Layer, ...]]] = {
    "conv": _conv,
    "mbconv": _mbconv,
    "pool": _pool,
    "linear": _linear,
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
            )
        )

    def pool(self, name: str, kernel: tuple[int, int], stride: int) -> None:
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

    def join(self, name: str, kind: str, other: str) -> None:
        self._append(Layer(name, kind, (self.last, other), self.shape, self.shape))

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
