"""Published networks of plain convolutions: their kernels, without weights.

A network is written as a sequence of steps, each on the tensor before it:

    64x7:2    convolution to 64 channels, kernel 7, stride 2, norm, ReLU; 64 is 64x1
    64x3-     without activation
    dw3:2     depthwise
    m3:2      max pooling; g: global average pooling; f1000: linear to 1000 (with ReLU: f1000+)
    [ ... ]   a residual around what is inside, projected where shapes differ, then ReLU
"""

from dataclasses import replace

from latency.errors import SpecError
from latency.graphs.fusion import USUAL, Fusion
from latency.graphs.kernels import Kernel, KernelGraph
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec


def _basic(*stages: tuple[int, int]) -> str:
    """Residual stages of two 3x3 convolutions; (channels, blocks) each."""
    steps = []
    for stage, (channels, count) in enumerate(stages):
        for position in range(count):
            stride = ":2" if stage and not position else ""
            steps.append(f"[ {channels}x3{stride} {channels}x3- ]")
    return " ".join(steps)


def _bottleneck(*stages: tuple[int, int]) -> str:
    """Residual stages of bottlenecks; (channels inside, blocks) each."""
    steps = []
    for stage, (channels, count) in enumerate(stages):
        for position in range(count):
            stride = ":2" if stage and not position else ""
            steps.append(f"[ {channels} {channels}x3{stride} {4 * channels}- ]")
    return " ".join(steps)


def _vgg(*stages: tuple[int, int]) -> str:
    return " ".join(" ".join([f"{channels}x3"] * count) + " m2:2" for channels, count in stages)


_STEM, _HEAD = "64x7:2 m3:2", "g f1000"
_MLP = "f4096+ f4096+ f1000"

NETWORKS = {
    # He et al., CVPR 2016, with the stride in the 3x3 convolution
    "resnet18": f"{_STEM} {_basic((64, 2), (128, 2), (256, 2), (512, 2))} {_HEAD}",
    "resnet34": f"{_STEM} {_basic((64, 3), (128, 4), (256, 6), (512, 3))} {_HEAD}",
    "resnet50": f"{_STEM} {_bottleneck((64, 3), (128, 4), (256, 6), (512, 3))} {_HEAD}",
    "resnet101": f"{_STEM} {_bottleneck((64, 3), (128, 4), (256, 23), (512, 3))} {_HEAD}",
    # Simonyan & Zisserman, ICLR 2015, with batch norm
    "vgg11_bn": f"{_vgg((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))} {_MLP}",
    "vgg16_bn": f"{_vgg((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))} {_MLP}",
    # Howard et al., 2017
    "mobilenet_v1": "32x3:2 dw3 64 dw3:2 128 dw3 128 dw3:2 256 dw3 256 dw3:2 512 "
    + "dw3 512 " * 5
    + f"dw3:2 1024 dw3 1024 {_HEAD}",
}


def graph(name: str, resolution: int = 224, batch: int = 1, fusion: Fusion = USUAL) -> KernelGraph:
    """The kernels of the network `name` on `resolution` x `resolution` images, as a runtime of
    these rules fuses them."""
    return expand_graph(name, NETWORKS[name], resolution, batch, fusion)


def expand_graph(
    name: str, text: str, resolution: int, batch: int = 1, fusion: Fusion = USUAL
) -> KernelGraph:
    """The network that `text` describes in the format of this module; `SpecError` for others."""
    writer = _Writer((resolution, resolution, 3), batch, fusion)
    try:
        for step in text.split():
            writer.add(step)
    except (ValueError, IndexError) as error:
        raise SpecError(f"network '{name}': {error}") from None
    return KernelGraph(name, tuple(Kernel(op, ()) for op in writer.ops))


class _Writer:
    """Collects the operators."""

    def __init__(self, shape: Shape, batch: int, fusion: Fusion) -> None:
        self.shape, self.batch, self.fusion = shape, batch, fusion
        self.ops: list[OpSpec] = []
        self.outside: list[Shape] = []

    def add(self, word: str) -> None:
        if word == "[":
            self.outside.append(self.shape)
        elif word == "]":
            self._residual(self.outside.pop())
        elif word == "g":
            self._append("pool", self.shape[2], self.shape[0])
        elif word.startswith("f"):
            self._linear(word)
        else:
            self._convolution(word)

    def _linear(self, word: str) -> None:
        height, width, channels = self.shape
        self.shape = (1, 1, height * width * channels)
        channels = int(word[1:].removesuffix("+"))
        self._append("linear", channels, activation="relu" if word.endswith("+") else "none")

    def _convolution(self, word: str) -> None:
        sizes, _, stride = word.removesuffix("-").partition(":")
        activation = "none" if word.endswith("-") else "relu"
        step = int(stride or 1)
        if sizes.startswith("m"):
            self._append("max_pool", self.shape[2], int(sizes[1:]), step)
        elif sizes.startswith("dw"):
            channels = self.shape[2]
            self._append("conv", channels, int(sizes[2:]), step, activation, channels)
        else:
            width, _, kernel = sizes.partition("x")
            self._append("conv", int(width), int(kernel or 1), step, activation)

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
    ) -> None:
        sizes = (*self.shape, channels, kernel, stride)
        self.ops.append(
            OpSpec(kind, *sizes, activation=activation, batch=self.batch, groups=groups)
        )
        self.shape = self.ops[-1].out_shape
