"""Random networks, in which kernels have realistic neighbours: CNNs as ONNX files, and chains of
blocks for runtimes that execute layers.

Stages are of the well-known families, with random widths, depths, kernels and activations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from devices.device import Workload
from devices.kernel_suite.cnn_writer import CnnWriter
from latency.graphs.fusion import Fusion
from latency.graphs.kernels import KernelGraph, kernels_of
from latency.graphs.reader import parse_graph
from latency.operators.kinds import Shape
from latency.operators.network import NetworkSpec
from latency.operators.spec import OpSpec

_RESOLUTIONS = (96, 112, 128, 144, 160, 192, 224, 224, 224, 256)
_FAMILIES = (
    *("plain", "plain", "basic", "basic", "bottleneck", "grouped", "inverted", "inverted"),
    *("separable", "fire", "dense", "shuffle", "next", "inception"),
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
    """Random CNNs with the seeds from `first` on."""
    drawn = []
    for seed in range(first, first + count):
        model = random_cnn(seed, batch)
        drawn.append(RandomNetwork(model, kernels_of(parse_graph(model, f"random-{seed}"), fusion)))
    return drawn


def random_cnn(seed: int, batch: int = 1, attempt: int = 0) -> bytes:
    """The random CNN of a seed, as an ONNX file; the same bytes for the same seed."""
    network = _RandomCnn(seed, attempt, batch)
    result = network.draw()
    if network.macs >= _MOST_MACS:
        return random_cnn(seed, batch, attempt + 1)
    return network.model(f"random-{seed}", result)


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
            self.activation = self._pick(_ACTIVATIONS)
            write = getattr(self, f"_{self._pick(_FAMILIES)}")
            depth = int(self.generator.integers(1, 4))
            x = write(x, width, depth, 2 if stage and self.shapes[x][1] > 7 else 1)
            width = min(1024, self._width(width * self.generator.uniform(1.3, 2.3)))
        return self._head(x)

    def _stem(self, x: str) -> str:
        width = self._width(self._pick([16, 24, 32, 48, 64, 64, 96]))
        kind = self.generator.choice(6, p=[0.35, 0.13, 0.1, 0.14, 0.1, 0.18])
        if kind == 0:
            return self.conv(x, width, 3, 2)
        if kind == 1:
            return self.max_pool(self.conv(x, width, 7, 2), 3, 2)
        if kind == 2:
            x = self.conv(x, width, 4, 4, activation="none")
            return self.channels_first(self.layer_norm(self.channels_last(x), width))
        if kind == 3:
            return self.max_pool(self.conv(x, width, self._pick([3, 5]), 2), 3, 2)
        if kind == 4:
            return self.max_pool(self.conv(x, min(64, width), 3), 2, 2)
        return self.max_pool(self.conv(self.conv(x, width, 3, 2), width, 3), 2, 2)

    def _head(self, x: str) -> str:
        channels, side = self.shapes[x]
        features = channels * side**2
        if side <= 8 and features < 30000 and self.generator.random() < 0.25:
            x = self.node("Flatten", [x], shape=(features, 1))
        else:
            if self.generator.random() < 0.5:
                x = self.conv(x, self._width(self.generator.uniform(1, 4) * channels), 1)
            x = self.node("Flatten", [self.pooled(x)])
        if self.generator.random() < 0.4:
            x = self.node("Relu", [self.linear(x, self._pick([512, 1024, 1280, 2048, 4096]))])
        return self.linear(x, self._pick([10, 100, 1000]))

    def _plain(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth):
            x = self.conv(x, width, self._pick([1, 3, 3, 3, 5]))
        if stride == 1:
            return x
        if self.generator.random() < 0.5:
            return self.max_pool(x, self._pick([2, 3]), 2)
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
        share = self._pick([8, 16, 16, 24, 32])
        width = max(2, round(width / share)) * share
        return self._bottleneck(x, width, depth, stride, width // share)

    def _inverted(self, x: str, width: int, depth: int, stride: int) -> str:
        squeezes = self.generator.random() < 0.5
        gate = self._pick(["h_sigmoid", "sigmoid"])
        for _ in range(depth + 1):
            if self.shapes[x][0] > 256:
                x = self.conv(x, self._width(self.generator.uniform(96, 256)), 1)
            inside = self.shapes[x][0]
            expansion = self._pick([1, 2, 3, 4, 6, 6])
            hidden = self._width(inside * expansion) if expansion > 1 else inside
            y = self.conv(x, hidden, 1) if expansion > 1 else x
            y = self.conv(y, hidden, self._odd(), stride, hidden)
            if squeezes:
                y = self.squeeze_excite(y, max(4, inside // 4 * 2), self.activation, gate)
            y = self.conv(y, min(width, 320), 1, activation="none")
            x = self.node("Add", [y, x]) if self.shapes[y] == self.shapes[x] else y
            stride = 1
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
        growth = self._pick([12, 16, 24, 32, 32, 48])
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
            y = self.channels_last(self.conv(x, width, 7, 1, width, "none"))
            y = self.project(self.layer_norm(y, width), 4 * width)
            y = self.project(self.gelu(y), width)
            y = self.channels_first(self.node("Mul", [y, self.constant(np.ones(width))]))
            x = self.node("Add", [x, y])
        return x

    def _inception(self, x: str, width: int, depth: int, stride: int) -> str:
        for _ in range(depth):
            sizes = [self._width(width * share) for share in self.generator.uniform(0.1, 0.5, 6)]
            pooled = self.max_pool(x, 3, 1)
            single = self.conv(x, sizes[0], 1)
            double = self.conv(self.conv(x, sizes[1], 1), sizes[2], 3)
            large = self.conv(self.conv(x, sizes[3], 1), sizes[4], self._odd())
            x = self.concat([single, double, large, self.conv(pooled, sizes[5], 1)])
        return self.max_pool(x, 3, 2) if stride == 2 else x

    def _width(self, near: float) -> int:
        """A number of channels, mostly a multiple of eight, as in real networks."""
        step = int(self.generator.choice([8, 16, 32, 4, 2], p=[0.45, 0.2, 0.1, 0.17, 0.08]))
        return max(step, 8, round(near / step) * step)

    def _odd(self) -> int:
        return self._pick([3, 3, 5, 7])

    def _pick(self, options: Sequence[Any]) -> Any:
        return self.generator.choice(options).item()


def random_blocks(seed: int, batch: int = 1) -> NetworkSpec:
    """The random network of a seed: a stem, stages of inverted bottlenecks (Sandler et al., CVPR
    2018; with squeeze-and-excitation: Howard et al., ICCV 2019) or plain convolutions, a head."""
    draw = np.random.default_rng([seed, 1])
    side = int(draw.choice((96, 128, 160, 192, 224)))
    width = 8 * int(draw.integers(2, 6))
    ops = [OpSpec("conv", side, side, 3, width, 3, 2, activation="relu")]
    for stage in range(int(draw.integers(3, 6))):
        width = min(320, 8 * max(1, round(width * draw.uniform(1.1, 2.0) / 8)))
        ops += _stage(ops[-1].out_shape, width, plain=stage < 2 and draw.random() < 0.3, draw=draw)
    height, _, channels = ops[-1].out_shape
    ops.append(OpSpec("conv", *ops[-1].out_shape, 4 * channels, activation="relu"))
    ops.append(OpSpec("pool", height, height, 4 * channels, 4 * channels, height))
    ops.append(OpSpec("linear", 1, 1, 4 * channels, int(draw.choice([10, 100, 1000]))))
    return NetworkSpec.of(f"blocks-{seed}", tuple(replace(op, batch=batch) for op in ops))


def _stage(shape: Shape, width: int, plain: bool, draw: np.random.Generator) -> list[OpSpec]:
    """One to three blocks, the first of stride 2."""
    activation = str(draw.choice(["relu", "relu6", "relu6", "h_swish"]))
    squeeze = float(draw.choice([0, 0, 0.25]))
    ops: list[OpSpec] = []
    for position in range(int(draw.integers(1, 4))):
        kernel, stride = int(draw.choice([3, 3, 5, 7])), 1 if position else 2
        sizes = (*shape, width, 3 if plain else kernel, stride)
        if plain:
            ops.append(OpSpec("conv", *sizes, activation=activation))
        else:
            expansion = int(draw.choice([1, 3, 4, 6]))
            squeezed = squeeze if expansion > 1 else 0.0
            ops.append(OpSpec("mbconv", *sizes, expansion, activation, squeezed))
        shape = ops[-1].out_shape
    return ops
