"""Chains of layers while they are written: what operators are decomposed with."""

from typing import Any, Self

from latency.operators.fields import OpFields
from latency.operators.layer import INPUT, Layer, Shape


class Chain:
    """Appends layers, each reading the one before it, and keeps track of the shape.

    `prefix`: what the names of the layers to come begin with.
    """

    def __init__(self, shape: Shape) -> None:
        self.layers: tuple[Layer, ...] = ()
        self.last, self.shape, self.prefix = INPUT, shape, ""

    @classmethod
    def of(cls, op: OpFields) -> Self:
        """A chain that begins with the operator's input."""
        return cls((op.height, op.width, op.in_channels))

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
