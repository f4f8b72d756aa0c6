"""Published convolutional networks, without weights, as sequences of steps:

64x7:2      convolution to 64 channels, kernel 7, stride 2, norm, activation; 64 is 64x1
64x3-       without activation
dw3:2       depthwise
3/6/24:2*4  inverted bottlenecks: kernel 3, expansion 6, 24 channels; 4 of them, the first
            one with stride 2
m3:2        max pooling; g: global average pooling; f1000: linear to 1000 (with ReLU: f1000+)
[ ... ]     a residual around what is inside, projected where shapes differ, then ReLU
"""

from dataclasses import replace

from latency.graphs.fusion import USUAL, Fusion
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec

CHAINS = {
    "mobilenet_v2": (  # Sandler et al., CVPR 2018, table 2
        "32x3:2 3/1/16 3/6/24:2*2 3/6/32:2*3 3/6/64:2*4 3/6/96*3 3/6/160:2*3 3/6/320 1280 g f1000"
    ),
    "proxyless_mobile": (  # this and the following: Cai, Zhu & Han, ICLR 2019, as published
        "32x3:2 3/1/16 5/3/32:2 3/3/32 7/3/40:2 3/3/40 5/3/40*2 7/6/80:2 5/3/80*3 5/6/96 5/3/96*3 "
        "7/6/192:2 7/6/192 7/3/192*2 7/6/320 1280 g f1000"
    ),
    "proxyless_gpu": (
        "40x3:2 3/1/24 5/3/32:2 7/3/56:2 3/3/56 7/6/112:2 5/3/112 5/6/128 3/3/128 5/3/128 "
        "7/6/256:2 7/6/256*2 5/6/256 7/6/432 1728 g f1000"
    ),
    "proxyless_cpu": (
        "40x3:2 3/1/24 3/6/32:2 3/3/32*3 3/6/48:2 3/3/48*2 5/3/48 3/6/88:2 3/3/88 5/6/104 "
        "3/3/104*3 5/6/216:2 5/3/216*2 3/3/216 5/6/360 1432 g f1000"
    ),
    "proxyless_mobile_14": (
        "48x3:2 3/1/24 5/3/40:2 3/3/40 7/3/56:2 3/3/56 5/3/56*2 7/6/112:2 5/3/112*3 5/6/136 "
        "5/3/136*3 7/6/256:2 7/6/256 7/3/256*2 7/6/448 1792 g f1000"
    ),
}
"""Networks of operators that can be searched; their activation is relu6."""


def _resnet(block: str, *counts: int) -> str:
    """A ResNet with `counts` blocks in its stages; `block` is a template of channels, four times
    the channels, and stride."""
    steps = []
    for stage, blocks in enumerate(counts):
        channels = 64 * 2**stage
        for position in range(blocks):
            stride = ":2" if stage and not position else ""
            steps.append(block.format(channels, 4 * channels, stride))
    return f"64x7:2 m3:2 {' '.join(steps)} g f1000"


_BASIC, _BOTTLENECK = "[ {0}x3{2} {0}x3- ]", "[ {0} {0}x3{2} {1}- ]"

GRAPHS = {
    # He et al., CVPR 2016, with the stride in the 3x3 convolution
    "resnet18": _resnet(_BASIC, 2, 2, 2, 2),
    "resnet34": _resnet(_BASIC, 3, 4, 6, 3),
    "resnet50": _resnet(_BOTTLENECK, 3, 4, 6, 3),
    "resnet101": _resnet(_BOTTLENECK, 3, 4, 23, 3),
    # Simonyan & Zisserman, ICLR 2015, with batch norm
    "vgg11_bn": "64x3 m2:2 128x3 m2:2 256x3*2 m2:2 512x3*2 m2:2 512x3*2 m2:2 f4096+ f4096+ f1000",
    "vgg16_bn": "64x3*2 m2:2 128x3*2 m2:2 256x3*3 m2:2 512x3*3 m2:2 512x3*3 m2:2 "
    "f4096+ f4096+ f1000",
    # Howard et al., 2017
    "mobilenet_v1": "32x3:2 dw3 64 dw3:2 128 dw3 128 dw3:2 256 dw3 256 dw3:2 512 "
    "dw3 512 dw3 512 dw3 512 dw3 512 dw3 512 dw3:2 1024 dw3 1024 g f1000",
}
"""Networks whose kernels need not be a chain; their activation is ReLU."""


def operators(
    text: str, resolution: int, batch: int, activation: str, fusion: Fusion = USUAL
) -> tuple[OpSpec, ...]:
    """The operators of a network in the format of this module, on square RGB images; `fusion`:
    whether sums are fused."""
    writer = _Writer(resolution, batch, activation, fusion)
    for step in text.split():
        writer.add(step)
    return tuple(writer.ops)


class _Writer:
    def __init__(self, resolution: int, batch: int, activation: str, fusion: Fusion) -> None:
        self.shape: Shape = (resolution, resolution, 3)
        self.batch, self.activation, self.fusion = batch, activation, fusion
        self.ops: list[OpSpec] = []
        self.outside: list[Shape] = []

    def add(self, step: str) -> None:
        if step == "[":
            self.outside.append(self.shape)
        elif step == "]":
            self._residual(self.outside.pop())
        elif step == "g":
            self._append("pool", self.shape[2], self.shape[0])
        elif step.startswith("f"):
            height, width, channels = self.shape
            self.shape = (1, 1, height * width * channels)
            activation = "relu" if step.endswith("+") else "none"
            self._append("linear", int(step[1:].removesuffix("+")), activation=activation)
        else:
            sizes, _, count = step.partition("*")
            sizes, _, stride = sizes.partition(":")
            for position in range(int(count or 1)):
                self._windowed(sizes, int(stride or 1) if position == 0 else 1)

    def _windowed(self, sizes: str, stride: int) -> None:
        """A convolution, a block or a max pooling."""
        channels = self.shape[2]
        activation = "none" if sizes.endswith("-") else self.activation
        sizes = sizes.removesuffix("-")
        if sizes.startswith("m"):
            self._append("max_pool", channels, int(sizes[1:]), stride)
        elif sizes.startswith("dw"):
            self._append("conv", channels, int(sizes[2:]), stride, activation, groups=channels)
        elif "/" in sizes:
            kernel, expansion, width = map(int, sizes.split("/"))
            self._append("mbconv", width, kernel, stride, activation, expansion=expansion)
        else:
            channels_text, _, kernel_text = sizes.partition("x")
            self._append("conv", int(channels_text), int(kernel_text or 1), stride, activation)

    def _residual(self, outside: Shape) -> None:
        last, shape = self.ops[-1], self.shape
        if outside != shape:
            self.shape = outside
            self._append("conv", shape[2], 1, outside[0] // shape[0])
        if "conv+add" in self.fusion.pairs:
            self.ops.remove(last)
            relu = "relu" if "conv_add+relu" in self.fusion.pairs else "none"
            self.ops.append(replace(last, kind="conv_add", activation=relu))
        else:
            self._append("add", shape[2], activation="relu")
        self.shape = shape

    def _append(
        self,
        kind: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        activation: str = "none",
        groups: int = 1,
        expansion: int = 1,
    ) -> None:
        sizes = (*self.shape, channels, kernel, stride, expansion, activation)
        self.ops.append(OpSpec(kind, *sizes, batch=self.batch, groups=groups))
        self.shape = self.ops[-1].out_shape
