"""Writes CNNs with random weights as ONNX models."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from devices.export.graph_writer import GraphWriter


class CnnWriter(GraphWriter):
    """A network being written. Tensors are names; `shapes` has their (channels, side).

    `activation`: default of convolutions. `macs`: multiply-accumulates so far.
    """

    def __init__(
        self, resolution: int, channels: int = 3, seed: Sequence[int] = (0,), batch: int = 1
    ) -> None:
        super().__init__()
        self.generator = np.random.default_rng(seed)
        self.batch = batch
        self.image = [batch, channels, resolution, resolution]
        self.shapes: dict[str, tuple[int, int]] = {"input": (channels, resolution)}
        self.activation = "relu"
        self.macs = 0.0

    def model(self, name: str, result: str) -> bytes:
        """The serialised model with the output `result`."""
        model = self.proto(name, {"input": self.image}, {result: None})
        return onnx.shape_inference.infer_shapes(model).SerializeToString()

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        name: str = "",
        shape: tuple[int, int] | None = None,
        **attributes: Any,
    ) -> str:
        """A node with one output of `shape` (channels, side), by default its first input's."""
        name = super().node(kind, inputs, name, **attributes)
        self.shapes[name] = shape or self.shapes.get(inputs[0], (0, 0))
        return name

    def residual(self, x: str, y: str, stride: int) -> str:
        if self.shapes[x] != self.shapes[y]:
            x = self.conv(x, self.shapes[y][0], 1, stride, activation="none")
        return self.activate(self.node("Add", [y, x]), self.activation)

    def squeeze_excite(self, x: str, squeezed: int, activation: str, gate: str) -> str:
        y = self.conv(self.pooled(x), squeezed, 1, activation=activation)
        y = self.conv(y, self.shapes[x][0], 1, activation=gate)
        return self.node("Mul", [x, y])

    def pooled(self, x: str) -> str:
        return self.node("GlobalAveragePool", [x], shape=(self.shapes[x][0], 1))

    def norm(self, x: str, activation: str = "relu") -> str:
        """Batch norm that cannot be folded into a convolution."""
        channels = self.shapes[x][0]
        numbers = [self.constant(np.full(channels, value)) for value in (1.0, 0.0, 0.0, 1.0)]
        return self.activate(self.node("BatchNormalization", [x, *numbers]), activation)

    def layer_norm(self, x: str, size: int) -> str:
        """Over the last axis, which has this size."""
        scale = [self.constant(np.ones(size)), self.constant(np.zeros(size))]
        return self.node("LayerNormalization", [x, *scale])

    def shuffled(self, parts: Sequence[str]) -> str:
        x = self.concat(parts)
        channels, side = self.shapes[x]
        return self.shuffle(x, 2, [self.batch, channels, side, side])

    def halves(self, x: str) -> tuple[str, str]:
        """The first and the second half of the channels."""
        channels, side = self.shapes[x]
        sizes = self.constant([channels // 2] * 2)
        first, second = self.outputs("Split", [x, sizes], 2, axis=1)
        self.shapes |= dict.fromkeys((first, second), (channels // 2, side))
        return first, second

    def concat(self, parts: Sequence[str]) -> str:
        channels = sum(self.shapes[part][0] for part in parts)
        return self.node("Concat", parts, shape=(channels, self.shapes[parts[0]][1]), axis=1)

    def max_pool(self, x: str, kernel: int, stride: int) -> str:
        pads = [(kernel - 1) // 2] * 4
        return self._window("MaxPool", [x], self.shapes[x][0], kernel, stride, pads=pads)

    def average_pool(self, x: str, stride: int = 2) -> str:
        """Of 2x2 windows; of 3x3, padded, where the stride is 1."""
        kernel, padding = (3, {"pads": [1] * 4}) if stride == 1 else (2, {})
        return self._window("AveragePool", [x], self.shapes[x][0], kernel, stride, **padding)

    def conv(
        self,
        x: str,
        outside: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
    ) -> str:
        weight = self.normal((outside, self.shapes[x][0] // groups, kernel, kernel))
        inputs = [x, self.constant(weight), self.constant(np.zeros(outside))]
        ends = {"pads": [0 if kernel == stride else kernel // 2] * 4, "group": groups}
        y = self._window("Conv", inputs, outside, kernel, stride, **ends)
        self.macs += weight.size * self.shapes[y][1] ** 2
        return self.activate(y, self.activation if activation is None else activation)

    def linear(self, x: str, outside: int) -> str:
        inputs = [x, self.constant(self.normal((outside, self.shapes[x][0])))]
        inputs.append(self.constant(np.zeros(outside)))
        return self.node("Gemm", inputs, shape=(outside, 1), transB=1)

    def project(self, x: str, outside: int) -> str:
        """Matrix product along the last axis."""
        inside, side = self.shapes[x]
        weight = self.normal((inside, outside))
        self.macs += weight.size * side**2
        y = self.matmul(x, weight, np.zeros(outside))
        self.shapes[y] = (outside, side)
        return y

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A weight, scaled as He et al. (ICCV 2015)."""
        scale = np.sqrt(2 / max(1, int(np.prod(shape)) // shape[0]))
        return self.generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)

    def _window(
        self, kind: str, inputs: Sequence[str], channels: int, kernel: int, stride: int, **ends: Any
    ) -> str:
        side = self.shapes[inputs[0]][1] + 2 * ends.get("pads", [0])[0]
        shape = (channels, (side - kernel) // stride + 1)
        sizes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        return self.node(kind, inputs, shape=shape, **sizes, **ends)
