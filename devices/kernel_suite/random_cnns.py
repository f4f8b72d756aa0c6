"""Random CNNs as ONNX files, for measuring kernels in realistic neighbourhoods.

Their stages are of the well-known families, with random widths, depths, kernels and activations.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from devices.device import Workload
from devices.kernel_suite.cnn_writer import CnnWriter
from latency.graphs.fusion import Fusion
from latency.graphs.kernels import KernelGraph, kernels_of
from latency.graphs.reader import parse_graph

_RESOLUTIONS = (96, 112, 128, 144, 160, 192, 224, 224, 224, 256)
_FAMILIES = (
    *("plain", "plain", "basic", "basic", "bottleneck", "grouped", "inverted", "inverted"),
    "separable",
    *("fire", "dense", "shuffle", "next", "inception"),
)
_ACTIVATIONS = ("relu", "relu", "relu", "relu6", "relu6", "h_swish", "silu")
_MOST_MACS = 5e9
"""Larger networks are drawn again: they would take seconds on a small device."""


@dataclass(frozen=True)
class RandomNetwork:
    """A random network: its file, and the kernels that the runtime executes."""

    model: bytes
    graph: KernelGraph

    @cached_property
    def workload(self) -> Workload:
        return Workload(self.graph.name, self.graph.ops, self.model)


def draw_networks(
    count: int, fusion: Fusion, first: int = 0, batch: int = 1
) -> list[RandomNetwork]:
    """Random networks of seeds from `first` on."""
    drawn = []
    for seed in range(first, first + count):
        model = random_cnn(seed, batch)
        drawn.append(RandomNetwork(model, kernels_of(parse_graph(model, f"random-{seed}"), fusion)))
    return drawn


def random_cnn(seed: int, batch: int = 1) -> bytes:
    """The random network of a seed; the same bytes for the same seed."""
    attempt = 0
    while True:
        network = _RandomCnn(seed, attempt, batch)
        result = network.draw()
        if network.macs < _MOST_MACS:
            return network.model(f"random-{seed}", result)
        attempt += 1


class _RandomCnn(CnnWriter):
    """A network being drawn."""

    def __init__(self, seed: int, attempt: int, batch: int) -> None:
        resolution = int(np.random.default_rng([seed, attempt, 1]).choice(_RESOLUTIONS))
        super().__init__(resolution, seed=(seed, attempt), batch=batch)

    def draw(self) -> str:
        """Write the network; returns the name of its output."""
        x = self._stem("input")
        stages = int(self.generator.integers(3, 5))
        width = self._width(float(2 ** self.generator.uniform(4, 6.6)))
        for stage in range(stages):
            self.activation = str(self.generator.choice(_ACTIVATIONS))
            family = str(self.generator.choice(_FAMILIES))
            depth = int(self.generator.integers(1, 4))
            stride = 2 if stage and self.shapes[x][1] > 7 else 1
            x = getattr(self, f"_{family}")(x, width, depth, stride)
            width = min(1024, self._width(width * self.generator.uniform(1.3, 2.3)))
        return self._head(x)

    def _stem(self, x: str) -> str:
        width = self._width(float(self.generator.choice([16, 24, 32, 48, 64, 64, 96])))
        kind = self.generator.choice(6, p=[0.35, 0.13, 0.1, 0.14, 0.1, 0.18])
        if kind == 0:
            return self.conv(x, width, 3, 2)
        if kind == 1:
            return self.max_pool(self.conv(x, width, 7, 2), 3, 2)
        if kind == 2:
            return self.last_norm(self.conv(x, width, 4, 4, activation="none"))
        if kind == 3:
            return self.max_pool(self.conv(x, width, int(self.generator.choice([3, 5])), 2), 3, 2)
        if kind == 4:
            return self.max_pool(self.conv(x, min(64, width), 3), 2, 2)
        return self.max_pool(self.conv(self.conv(x, width, 3, 2), width, 3), 2, 2)

    def _head(self, x: str) -> str:
        channels, side = self.shapes[x]
        if side <= 8 and channels * side * side < 30000 and self.generator.random() < 0.25:
            x, inside = self.node("Flatten", [x]), channels * side * side
        else:
            if self.generator.random() < 0.5:
                channels = self._width(self.generator.uniform(1, 4) * channels)
                x = self.conv(x, channels, 1)
            x, inside = self.node("Flatten", [self.pooled(x)]), channels
        if self.generator.random() < 0.4:
            hidden = int(self.generator.choice([512, 1024, 1280, 2048, 4096]))
            x = self.node("Relu", [self.linear(x, inside, hidden)])
            inside = hidden
        return self.linear(x, inside, int(self.generator.choice([10, 100, 1000])))

    def _plain(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth):
            x = self.conv(x, width, int(self.generator.choice([1, 3, 3, 3, 5])))
        if stride == 1:
            return x
        if self.generator.random() < 0.5:
            return self.max_pool(x, int(self.generator.choice([2, 3])), 2)
        return self.average_pool(x)

    def _basic(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth):
            y = self.conv(self.conv(x, width, 3, stride), width, 3, activation="none")
            x, stride = self.residual(x, y, stride), 1
        return x

    def _bottleneck(self, x: str, width: int, depth: int, stride: int, groups: int = 1) -> str:
        outside = width if groups > 1 else 4 * width if width < 384 else width
        squeezes = groups > 1 and self.generator.random() < 0.5
        for _ in range(depth):
            y = self.conv(self.conv(x, width, 1), width, 3, stride, groups)
            if squeezes:
                y = self.squeeze_excite(y, width // 4, "relu", "sigmoid")
            x = self.residual(x, self.conv(y, outside, 1, activation="none"), stride)
            stride = 1
        return x

    def _grouped(self, x: str, width: int, depth: int, stride: int) -> str:
        share = int(self.generator.choice([8, 16, 16, 24, 32]))
        width = max(2, round(width / share)) * share
        return self._bottleneck(x, width, depth, stride, width // share)

    def _inverted(self, x: str, width: int, depth: int, stride: int) -> str:
        squeezes = self.generator.random() < 0.5
        gate = str(self.generator.choice(["h_sigmoid", "sigmoid"]))
        for _ in range(depth + 1):
            inside = self.shapes[x][0]
            if inside > 256:
                x = self.conv(x, self._width(self.generator.uniform(96, 256)), 1)
                inside = self.shapes[x][0]
            expansion = float(self.generator.choice([1, 2, 3, 4, 6, 6]))
            hidden = self._width(inside * expansion) if expansion > 1 else inside
            y = self.conv(x, hidden, 1) if expansion > 1 else x
            y = self.conv(y, hidden, self._odd(), stride, hidden)
            if squeezes:
                y = self.squeeze_excite(y, max(4, inside // 4 * 2), self.activation, gate)
            outside = min(width, 320)
            y = self.conv(y, outside, 1, activation="none")
            if stride == 1 and inside == outside:
                y = self.node("Add", [y, x])
            x, stride = y, 1
        return x

    def _separable(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth + 1):
            inside = self.shapes[x][0]
            x = self.conv(self.conv(x, inside, self._odd(), stride, inside), width, 1)
            stride = 1
        return x

    def _fire(self, x: str, width: int, depth: int, stride: int) -> str:
        half = self._width(width / 2)
        for _ in range(depth):
            y = self.conv(x, self._width(max(16, half / 4)), 1)
            x = self.concat([self.conv(y, half, 1), self.conv(y, half, 3)])
        return self.max_pool(x, 3, 2) if stride == 2 else x

    def _dense(self, x: str, width: int, depth: int, stride: int) -> str:
        growth = int(self.generator.choice([12, 16, 24, 32, 32, 48]))
        for _ in range(2 * depth):
            y = self.conv(self.norm(x), 4 * growth, 1, activation="none")
            x = self.concat([x, self.conv(self.norm(y), growth, 3, activation="none")])
        x = self.conv(self.norm(x), self._width(self.shapes[x][0] / 2), 1, activation="none")
        return self.average_pool(x) if stride == 2 else x

    def _shuffle(self, x: str, width: int, depth: int, stride: int) -> str:
        half = self._width(width / 2)
        inside = self.shapes[x][0]
        main = self.conv(self.conv(x, half, 1), half, 3, 2, half, "none")
        side = self.conv(x, inside, 3, 2, inside, "none")
        x = self.shuffled([self.conv(side, half, 1), self.conv(main, half, 1)])
        for _ in range(depth):
            kept, rest = self.halves(x)
            y = self.conv(self.conv(rest, half, 1), half, 3, 1, half, "none")
            x = self.shuffled([kept, self.conv(y, half, 1)])
        return x

    def _next(self, x: str, width: int, depth: int, stride: int) -> str:
        width = min(self._width(width * self.generator.uniform(1, 3)), 768)
        x = self.conv(x, width, stride, stride, activation="none")
        for _ in range(depth):
            side = self.shapes[x][1]
            y = self.conv(x, width, 7, 1, width, "none")
            y = self.layer_norm(self.channels_last(y), width)
            y = self.gelu(self.project(y, width, 4 * width, side))
            y = self.project(y, 4 * width, width, side)
            y = self.channels_first(self.node("Mul", [y, self.constant(np.ones(width))]))
            x = self.node("Add", [x, y], shape=(width, side))
        return x

    def _inception(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth):
            sizes = [self._width(width * share) for share in self.generator.uniform(0.1, 0.5, 6)]
            pooled = self.max_pool(x, 3, 1)
            x = self.concat(
                [
                    self.conv(x, sizes[0], 1),
                    self.conv(self.conv(x, sizes[1], 1), sizes[2], 3),
                    self.conv(self.conv(x, sizes[3], 1), sizes[4], self._odd()),
                    self.conv(pooled, sizes[5], 1),
                ]
            )
        return self.max_pool(x, 3, 2) if stride == 2 else x

    def _width(self, near: float) -> int:
        """A number of channels, mostly a multiple of eight, as in real networks."""
        step = int(self.generator.choice([8, 16, 32, 4, 2], p=[0.45, 0.2, 0.1, 0.17, 0.08]))
        return max(step, 8, round(near / step) * step)

    def _odd(self) -> int:
        return int(self.generator.choice([3, 3, 5, 7]))
