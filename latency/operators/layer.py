"""The primitive layers of operators, and chains of them while they are written."""

from dataclasses import dataclass
from typing import Any

Shape = tuple[int, int, int]
"""(height, width, channels)"""

INPUT, OTHER = "input", "other"
"""The names by which a layer refers to its operator's input, and to the second one that some
kinds have (`layers.other_shape`)."""


@dataclass(frozen=True)
class Layer:
    """A primitive: `conv`, `conv_transpose`, `linear`, `matmul` (mixes the channels of each
    pixel), `pool` (average), `max_pool`, `avg_pool` (padded, over the pixels that are there), `add`
    or `multiply` (broadcasting), `norm` (batch norm that stands alone: scale and shift a channel),
    `layer_norm` (over channels), `concat` and `slice` (from `start`) of channels, `pad` (with
    channels of zeros), `shuffle` (channels of all `groups` in turn), `transpose` (to channels
    last), `resize` (nearest, by `stride`), `softmax` (over channels), `reorder` (to a runtime's own
    layout), or `identity`.

    `norm`: followed by batch norm (which a deployed graph folds); else what has a weight has a
    bias, too, but for a convolution without `bias`. `activation` is applied last. `droppable`: how
    many of its inputs, the first ones, are branches that path dropout may leave out in training.
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
    bias: bool = True
    start: int = 0
    droppable: int = 0

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
    def is_nothing(self) -> bool:
        """Whether the layer's output is its input, so that no runtime executes it."""
        return self.kind == "identity" and self.activation == "none"

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
        vectors = 2 if self.norm else int(self.bias)
        return _product(self.weight_shape) + self.out_shape[2] * vectors

    @property
    def activations(self) -> int:
        """Numbers read and written for one sample, weights left out."""
        if self.is_nothing:
            return 0
        if self.kind == "concat":
            return 2 * _product(self.out_shape)
        if self.kind == "slice":
            return 2 * _product(self.out_shape)
        return _product(self.in_shape) * len(self.inputs) + _product(self.out_shape)


class Chain:
    """Appends layers, each reading the one before it, and keeps track of the shape.

    `prefix`: what the names of the layers to come begin with.
    """

    def __init__(self, shape: Shape) -> None:
        self.layers: tuple[Layer, ...] = ()
        self.last, self.shape, self.prefix = INPUT, shape, ""

    @property
    def place(self) -> tuple[str, Shape]:
        """Where the chain is: name and shape of what the next layer reads."""
        return self.last, self.shape

    def return_to(self, place: tuple[str, Shape]) -> None:
        """Let the next layer read what was computed before."""
        self.last, self.shape = place

    def append(self, name: str, kind: str, out_shape: Shape, *others: str, **traits: Any) -> None:
        """A layer of any kind that reads the last one, and `others`."""
        inputs = (self.last, *others)
        layer = Layer(self.prefix + name, kind, inputs, self.shape, out_shape, **traits)
        self.layers += (layer,)
        self.last, self.shape = layer.name, out_shape

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
        bias: bool = True,
    ) -> None:
        height, width, _ = self.shape
        self.append(
            name,
            "conv",
            (-(-height // stride), -(-width // stride), channels),
            kernel=(kernel, kernel),
            stride=stride,
            groups=groups,
            norm=norm,
            activation=activation,
            dilation=dilation,
            bias=bias,
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
        sizes = {"kernel": (kernel, kernel), "stride": stride}
        self.append(kind, kind, out_shape, activation=activation, **sizes)

    def norm(self, name: str, activation: str = "none") -> None:
        """Batch norm that stands alone."""
        self.append(name, "norm", self.shape, activation=activation)

    def pool(
        self, name: str, kernel: tuple[int, int], stride: int, activation: str = "none"
    ) -> None:
        height, width, channels = self.shape
        out_shape = (
            (height - kernel[0]) // stride + 1,
            (width - kernel[1]) // stride + 1,
            channels,
        )
        self.append(name, "pool", out_shape, kernel=kernel, stride=stride, activation=activation)

    def padded_pool(
        self, kind: str, kernel: int, stride: int = 1, activation: str = "none"
    ) -> None:
        """`max_pool` or `avg_pool`, padded on each side by half of what the kernel has more than
        one pixel."""
        padding = 2 * ((kernel - 1) // 2)
        height, width = ((size + padding - kernel) // stride + 1 for size in self.shape[:2])
        self.primitive(kind, (height, width, self.shape[2]), kernel, stride, activation)

    def linear(self, name: str, channels: int, activation: str) -> None:
        self.append(name, "linear", (1, 1, channels), activation=activation)

    def join(
        self,
        name: str,
        kind: str,
        other: str,
        activation: str = "none",
        channels: int | None = None,
        droppable: int = 0,
    ) -> None:
        out_shape = (*self.shape[:2], channels or self.shape[2])
        self.append(name, kind, out_shape, other, activation=activation, droppable=droppable)

    def squeeze_excite(self, squeezed: int) -> None:
        """Hu et al., CVPR 2018, with the hard sigmoid of MobileNetV3."""
        excited = self.place
        self.pool("squeeze", self.shape[:2], 1)
        self.conv("reduce", squeezed, norm=False, activation="relu")
        self.conv("excite", excited[1][2], norm=False, activation="h_sigmoid")
        gate = self.last
        self.return_to(excited)
        self.join("scale", "multiply", gate)

    def separable(
        self, channels: int, kernel: int, stride: int, activation: str, dilation: int
    ) -> None:
        """Norm and activation, depthwise kxk, 1x1: the pre-activation order of He et al. (Identity
        mappings in deep residual networks, ECCV 2016)."""
        self.norm("norm", activation)
        inside = self.shape[2]
        self.conv(
            "depthwise", inside, kernel, stride, inside, norm=False, dilation=dilation, bias=False
        )
        self.conv("pointwise", channels, norm=False, bias=False)


def _product(sizes: tuple[int, ...]) -> int:
    if not sizes:
        return 0
    total = 1
    for size in sizes:
        total *= size
    return total
