"""Well-known CNNs with random weights, as torch modules exported to ONNX.

No table was measured on them. Each as published but for its weights; the sources are named at each
function."""

import io
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def onnx_of(module: nn.Module, resolution: int = 224) -> bytes:
    """The module as an ONNX file that takes one image."""
    content = io.BytesIO()
    image = torch.zeros(1, 3, resolution, resolution)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), (image,), content, dynamo=False, opset_version=17)
    return content.getvalue()


def conv(
    inside: int,
    outside: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    layers = [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outside),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def head(channels: int, classes: int = 1000) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """x + f(x), or shortcut(x) + f(x); activation."""

    def __init__(
        self,
        body: nn.Module,
        shortcut: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut or nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, squeezed: int, gate: Callable[[], nn.Module], act=nn.ReLU):
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            act(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Concat(nn.Module):
    """The outputs of several modules on one input, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def resnet(depths: Sequence[int], bottleneck: bool, width: int = 64) -> nn.Module:
    """He et al., CVPR 2016."""
    layers: list[nn.Module] = [conv(3, width, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inside = width
    for stage, depth in enumerate(depths):
        for position in range(depth):
            stride = 2 if stage and not position else 1
            middle = width << stage
            outside = 4 * middle if bottleneck else middle
            if bottleneck:
                body = nn.Sequential(
                    conv(inside, middle),
                    conv(middle, middle, 3, stride),
                    conv(middle, outside, activation=None),
                )
            else:
                body = nn.Sequential(
                    conv(inside, outside, 3, stride), conv(outside, outside, 3, activation=None)
                )
            is_same = stride == 1 and inside == outside
            shortcut = None if is_same else conv(inside, outside, 1, stride, activation=None)
            layers.append(Residual(body, shortcut, nn.ReLU()))
            inside = outside
    return nn.Sequential(*layers, head(inside))


def vgg(plan: str, norm: bool) -> nn.Module:
    """Simonyan & Zisserman, ICLR 2015; M stands for max pooling."""
    layers: list[nn.Module] = []
    inside = 3
    for word in plan.split():
        if word == "M":
            layers.append(nn.MaxPool2d(2, 2))
        elif norm:
            layers.append(conv(inside, int(word), 3))
        else:
            layers += [nn.Conv2d(inside, int(word), 3, padding=1), nn.ReLU()]
        inside = inside if word == "M" else int(word)
    classify = [nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Linear(4096, 4096)]
    return nn.Sequential(*layers, *classify, nn.ReLU(), nn.Linear(4096, 1000))


def mobilenet_v1(width: float = 1.0) -> nn.Module:
    """Howard et al., 2017."""
    sizes = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    inside = int(32 * width)
    layers: list[nn.Module] = [conv(3, inside, 3, 2)]
    for size, stride in zip(sizes, strides, strict=True):
        outside = int(size * width)
        layers += [conv(inside, inside, 3, stride, inside), conv(inside, outside)]
        inside = outside
    return nn.Sequential(*layers, head(inside))


def inverted(
    inside: int,
    hidden: int,
    outside: int,
    kernel: int,
    stride: int,
    activation: Callable[[], nn.Module],
    squeeze: nn.Module | None = None,
) -> nn.Module:
    """Sandler et al., CVPR 2018."""
    layers = [conv(inside, hidden, activation=activation)] if hidden != inside else []
    layers.append(conv(hidden, hidden, kernel, stride, hidden, activation))
    if squeeze is not None:
        layers.append(nn.Sequential(squeeze))
    layers.append(conv(hidden, outside, activation=None))
    body = nn.Sequential(*layers)
    return Residual(body) if stride == 1 and inside == outside else body


def mobilenet_v2(width: float = 1.0) -> nn.Module:
    """Sandler et al., CVPR 2018."""
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
    plan += [(6, 160, 3, 2), (6, 320, 1, 1)]
    inside = _eight(32 * width)
    layers: list[nn.Module] = [conv(3, inside, 3, 2, activation=nn.ReLU6)]
    for expansion, channels, count, stride in plan:
        outside = _eight(channels * width)
        for position in range(count):
            step = stride if not position else 1
            layers.append(inverted(inside, inside * expansion, outside, 3, step, nn.ReLU6))
            inside = outside
    last = max(1280, _eight(1280 * width))
    return nn.Sequential(*layers, conv(inside, last, activation=nn.ReLU6), head(last))


def mobilenet_v3(rows: str, first: int, last: int, features: int) -> nn.Module:
    """Howard et al., ICCV 2019; rows: kernel, hidden, out, squeeze-excite, activation, stride."""
    layers: list[nn.Module] = [conv(3, first, 3, 2, activation=nn.Hardswish)]
    inside = first
    for row in rows.split():
        kernel, hidden, outside, squeezes, function, stride = row.split("/")
        activation = nn.Hardswish if function == "h" else nn.ReLU
        wide = int(hidden)
        squeeze = SqueezeExcite(wide, _eight(wide / 4), nn.Hardsigmoid) if int(squeezes) else None
        sizes = (inside, wide, int(outside), int(kernel), int(stride))
        layers.append(inverted(*sizes, activation, squeeze))
        inside = int(outside)
    layers.append(conv(inside, last, activation=nn.Hardswish))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, features), nn.Hardswish()]
    return nn.Sequential(*layers, nn.Linear(features, 1000))


def efficientnet(width: float = 1.0, depth: float = 1.0, lite: bool = False) -> nn.Module:
    """Tan & Le, ICML 2019; the lite ones have ReLU6 and no squeeze-excite."""
    plan = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)]
    plan += [(6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
    activation = nn.ReLU6 if lite else nn.SiLU
    inside = 32 if lite else _eight(32 * width)
    layers: list[nn.Module] = [conv(3, inside, 3, 2, activation=activation)]
    for expansion, channels, count, stride, kernel in plan:
        outside = _eight(channels * width)
        for position in range(-int(-count * depth // 1)):
            hidden = inside * expansion
            squeeze = None
            if not lite:
                squeeze = SqueezeExcite(hidden, max(1, inside // 4), nn.Sigmoid, nn.SiLU)
            step = stride if not position else 1
            layers.append(inverted(inside, hidden, outside, kernel, step, activation, squeeze))
            inside = outside
    last = 1280 if lite else _eight(1280 * width)
    return nn.Sequential(*layers, conv(inside, last, activation=activation), head(last))


def squeezenet(version: str) -> nn.Module:
    """Iandola et al., 2016."""

    def fire(inside: int, squeezed: int, half: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inside, squeezed, 1),
            nn.ReLU(),
            Concat(
                nn.Sequential(nn.Conv2d(squeezed, half, 1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(squeezed, half, 3, padding=1), nn.ReLU()),
            ),
        )

    is_first = version == "1.0"
    stem, kernel = (96, 7) if is_first else (64, 3)
    pools = (2, 6) if is_first else (1, 3)
    layers: list[nn.Module] = [nn.Conv2d(3, stem, kernel, 2), nn.ReLU()]
    layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    inside = stem
    plan = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    for position, (squeezed, half) in enumerate(plan):
        layers.append(fire(inside, squeezed, half))
        inside = 2 * half
        if position in pools:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    layers += [nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


def densenet(depths: Sequence[int], growth: int, stem: int) -> nn.Module:
    """Huang et al., CVPR 2017."""

    def normed(inside: int, outside: int, kernel: int) -> list[nn.Module]:
        layers = [nn.BatchNorm2d(inside), nn.ReLU()]
        return [*layers, nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)]

    layers: list[nn.Module] = [conv(3, stem, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inside = stem
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            body = [*normed(inside, 4 * growth, 1), *normed(4 * growth, growth, 3)]
            layers.append(Concat(nn.Identity(), nn.Sequential(*body)))
            inside += growth
        if stage < len(depths) - 1:
            layers += [*normed(inside, inside // 2, 1), nn.AvgPool2d(2, 2)]
            inside //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(inside), nn.ReLU(), head(inside))


def regnet(depths: Sequence[int], widths: Sequence[int], group: int, squeeze: bool) -> nn.Module:
    """Radosavovic et al., CVPR 2020."""
    layers: list[nn.Module] = [conv(3, 32, 3, 2)]
    inside = 32
    for depth, outside in zip(depths, widths, strict=True):
        for position in range(depth):
            stride = 2 if not position else 1
            body = [conv(inside, outside), conv(outside, outside, 3, stride, outside // group)]
            if squeeze:
                gate = SqueezeExcite(outside, max(1, inside // 4), nn.Sigmoid)
                body.append(nn.Sequential(gate))
            body.append(conv(outside, outside, activation=None))
            is_same = stride == 1 and inside == outside
            shortcut = None if is_same else conv(inside, outside, 1, stride, activation=None)
            layers.append(Residual(nn.Sequential(*body), shortcut, nn.ReLU()))
            inside = outside
    return nn.Sequential(*layers, head(inside))


class Shuffle(nn.Module):
    """A unit of ShuffleNet v2 (Ma et al., ECCV 2018)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        half = outside // 2
        self.stride = stride
        first = inside if stride == 2 else half
        self.main = nn.Sequential(
            conv(first, half),
            conv(half, half, 3, stride, half, activation=None),
            conv(half, half),
        )
        self.side: nn.Module = nn.Identity()
        if stride == 2:
            sizes = (inside, inside, 3, stride, inside)
            self.side = nn.Sequential(conv(*sizes, activation=None), conv(inside, half))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = torch.cat([self.side(x), self.main(x)], 1)
        else:
            kept, rest = x.chunk(2, 1)
            x = torch.cat([kept, self.main(rest)], 1)
        batch, channels, height, width = x.shape
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return x.reshape(batch, channels, height, width)


def shufflenet_v2(widths: Sequence[int]) -> nn.Module:
    """Ma et al., ECCV 2018."""
    layers: list[nn.Module] = [conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    inside = 24
    for outside, depth in zip(widths[:3], (4, 8, 4), strict=True):
        for position in range(depth):
            layers.append(Shuffle(inside, outside, 2 if not position else 1))
            inside = outside
    return nn.Sequential(*layers, conv(inside, widths[3]), head(widths[3]))


class ConvNextBlock(nn.Module):
    """Liu et al., CVPR 2022."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.mlp(y) * self.scale).permute(0, 3, 1, 2)


class LastNorm(nn.LayerNorm):
    """Layer norm over channels of a tensor with channels first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext(depths: Sequence[int], widths: Sequence[int]) -> nn.Module:
    """Liu et al., CVPR 2022."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), LastNorm(widths[0])]
    for stage, (depth, channels) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            layers += [LastNorm(widths[stage - 1]), nn.Conv2d(widths[stage - 1], channels, 2, 2)]
        layers += [ConvNextBlock(channels) for _ in range(depth)]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1])]
    return nn.Sequential(*layers, *last, nn.Linear(widths[-1], 1000))


def alexnet() -> nn.Module:
    """Krizhevsky, 2014 (one tower)."""
    layers = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for inside, outside in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))


def googlenet() -> nn.Module:
    """Szegedy et al., CVPR 2015, with batch norm."""

    def inception(inside: int, *sizes: int) -> nn.Module:
        a, b1, b2, c1, c2, d = sizes
        return Concat(
            conv(inside, a),
            nn.Sequential(conv(inside, b1), conv(b1, b2, 3)),
            nn.Sequential(conv(inside, c1), conv(c1, c2, 3)),
            nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(inside, d)),
        )

    def shrink() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        conv(3, 64, 7, 2), shrink(), conv(64, 64), conv(64, 192, 3), shrink(),
        inception(192, 64, 96, 128, 16, 32, 32), inception(256, 128, 128, 192, 32, 96, 64),
        shrink(),
        inception(480, 192, 96, 208, 16, 48, 64), inception(512, 160, 112, 224, 24, 64, 64),
        inception(512, 128, 128, 256, 24, 64, 64), inception(512, 112, 144, 288, 32, 64, 64),
        inception(528, 256, 160, 320, 32, 128, 128), shrink(),
        inception(832, 256, 160, 320, 32, 128, 128), inception(832, 384, 192, 384, 48, 128, 128),
        head(1024),
    )  # fmt: skip


def _eight(number: float) -> int:
    """The nearest multiple of eight that is not below nine tenths."""
    near = max(8, int(number + 4) // 8 * 8)
    return near + 8 if near < 0.9 * number else near


_V3_LARGE = (
    "3/16/16/0/r/1 3/64/24/0/r/2 3/72/24/0/r/1 5/72/40/1/r/2 5/120/40/1/r/1 5/120/40/1/r/1 "
    "3/240/80/0/h/2 3/200/80/0/h/1 3/184/80/0/h/1 3/184/80/0/h/1 3/480/112/1/h/1 "
    "3/672/112/1/h/1 5/672/160/1/h/2 5/960/160/1/h/1 5/960/160/1/h/1"
)
_V3_SMALL = (
    "3/16/16/1/r/2 3/72/24/0/r/2 3/88/24/0/r/1 5/96/40/1/h/2 5/240/40/1/h/1 5/240/40/1/h/1 "
    "5/120/48/1/h/1 5/144/48/1/h/1 5/288/96/1/h/2 5/576/96/1/h/1 5/576/96/1/h/1"
)
_VGG11 = "64 M 128 M 256 256 M 512 512 M 512 512 M"
_VGG16 = "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"

MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (lambda: resnet((2, 2, 2, 2), False), 224),
    "resnet34": (lambda: resnet((3, 4, 6, 3), False), 224),
    "resnet50": (lambda: resnet((3, 4, 6, 3), True), 224),
    "vgg11": (lambda: vgg(_VGG11, False), 224),
    "vgg16_bn": (lambda: vgg(_VGG16, True), 224),
    "alexnet": (alexnet, 224),
    "googlenet": (googlenet, 224),
    "mobilenet_v1": (mobilenet_v1, 224),
    "mobilenet_v1_half": (lambda: mobilenet_v1(0.5), 192),
    "mobilenet_v2": (mobilenet_v2, 224),
    "mobilenet_v2_140": (lambda: mobilenet_v2(1.4), 224),
    "mobilenet_v3_large": (lambda: mobilenet_v3(_V3_LARGE, 16, 960, 1280), 224),
    "mobilenet_v3_small": (lambda: mobilenet_v3(_V3_SMALL, 16, 576, 1024), 224),
    "efficientnet_b0": (efficientnet, 224),
    "efficientnet_b1": (lambda: efficientnet(1.0, 1.1), 240),
    "efficientnet_lite0": (lambda: efficientnet(lite=True), 224),
    "squeezenet1_0": (lambda: squeezenet("1.0"), 224),
    "squeezenet1_1": (lambda: squeezenet("1.1"), 224),
    "densenet121": (lambda: densenet((6, 12, 24, 16), 32, 64), 224),
    "densenet_small": (lambda: densenet((6, 12, 18), 24, 48), 160),
    "regnet_x_400mf": (lambda: regnet((1, 2, 7, 12), (32, 64, 160, 400), 16, False), 224),
    "regnet_y_400mf": (lambda: regnet((1, 3, 6, 6), (48, 104, 208, 440), 8, True), 224),
    "shufflenet_v2_x0_5": (lambda: shufflenet_v2((48, 96, 192, 1024)), 224),
    "shufflenet_v2_x1_0": (lambda: shufflenet_v2((116, 232, 464, 1024)), 224),
    "convnext_atto": (lambda: convnext((2, 2, 6, 2), (40, 80, 160, 320)), 224),
    "convnext_tiny": (lambda: convnext((3, 3, 9, 3), (96, 192, 384, 768)), 224),
}
"""Name to module and resolution."""
