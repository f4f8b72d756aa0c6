"""`Chain`: builds the layers of an operator."""

from typing import Any

from latency.operators.layer import INPUT, Layer, Shape


class Chain:
    """Appends layers, each of which reads the one before it, and keeps track of the shape.

    `prefix` begins the names of the layers that are appended next.
    """

    def __init__(self, shape: Shape) -> None:
        self.layers: tuple[Layer, ...] = ()
        self.last, self.shape, self.prefix = INPUT, shape, ""

    @property
    def tensor(self) -> tuple[str, Shape]:
        """Name and shape of what the next layer reads."""
        return self.last, self.shape

    def read(self, tensor: tuple[str, Shape]) -> None:
        """Let the next layer read an earlier tensor."""
        self.last, self.shape = tensor

    def append(self, name: str, kind: str, out_shape: Shape, *others: str, **traits: Any) -> None:
        """Append a layer of any kind that reads the last one and `others`."""
        inputs = (self.last, *others)
        layer = Layer(self.prefix + name, kind, inputs, self.shape, out_shape, **traits)
        self.layers += (layer,)
        self.last, self.shape = layer.name, out_shape

    def conv(
        self, name: str, channels: int, kernel: int = 1, stride: int = 1, **traits: Any
    ) -> None:
        """Append a convolution, by default with batch norm."""
        height, width, _ = self.shape
        out_shape = (-(-height // stride), -(-width // stride), channels)
        traits = {"norm": True, "kernel": (kernel, kernel), "stride": stride, **traits}
        self.append(name, "conv", out_shape, **traits)

    def squeeze_excite(self, squeezed: int) -> None:
        """Hu et al., CVPR 2018, with the hard sigmoid of MobileNetV3."""
        excited = self.tensor
        height, width, channels = self.shape
        self.append("squeeze", "pool", (1, 1, channels), kernel=(height, width))
        self.conv("reduce", squeezed, norm=False, activation="relu")
        self.conv("excite", channels, norm=False, activation="h_sigmoid")
        gate = self.last
        self.read(excited)
        self.append("scale", "multiply", self.shape, gate)

    def separable(
        self, channels: int, kernel: int, stride: int, activation: str, dilation: int
    ) -> None:
        """Norm and activation, depthwise kxk, 1x1: the pre-activation order of He et al. (Identity
        mappings in deep residual networks, ECCV 2016)."""
        self.append("norm", "norm", self.shape, activation=activation)
        plain = {"norm": False, "bias": False}
        inside = self.shape[2]
        self.conv("depthwise", inside, kernel, stride, groups=inside, dilation=dilation, **plain)
        self.conv("pointwise", channels, **plain)
