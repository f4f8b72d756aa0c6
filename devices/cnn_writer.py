"""CNNs written to ONNX piece by piece, with random weights."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from devices.export import IR_VERSION, OPSET


class CnnWriter:
    """A network while it is written. Tensors are names; `shapes` has their (channels, side).

    `activation`: the one that convolutions have where none is named. `macs`: so far.
    """

    def __init__(
        self, resolution: int, channels: int = 3, seed: Sequence[int] = (0,), batch: int = 1
    ) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.batch = batch
        self.image = [batch, channels, resolution, resolution]
        self.shapes: dict[str, tuple[int, int]] = {"input": (channels, resolution)}
        self.activation = "relu"
        self.macs = 0.0

    def model(self, name: str, result: str) -> bytes:
        """The serialised model, which returns the tensor `result`."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, self.image)],
            [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, None)],
            self.weights,
        )
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        return onnx.shape_inference.infer_shapes(model).SerializeToString()

    def residual(self, x: str, y: str, stride: int) -> str:
        if self.shapes[x] != self.shapes[y]:
            x = self.conv(x, self.shapes[y][0], 1, stride, activation="none")
        return self.activate(self.node("Add", [y, x]), self.activation)

    def squeeze_excite(self, x: str, squeezed: int, activation: str, gate: str) -> str:
        pooled = self.node("GlobalAveragePool", [x], shape=(self.shapes[x][0], 1))
        y = self.conv(pooled, squeezed, 1, activation=activation)
        y = self.conv(y, self.shapes[x][0], 1, activation=gate)
        return self.node("Mul", [x, y])

    def norm(self, x: str, activation: str = "relu") -> str:
        """Batch norm that no convolution is there to take in."""
        channels = self.shapes[x][0]
        values = [np.ones(channels), np.zeros(channels), np.zeros(channels), np.ones(channels)]
        normed = self.node("BatchNormalization", [x, *map(self.constant, values)])
        return self.activate(normed, activation)

    def layer_norm(self, x: str, size: int) -> str:
        """Over the last axis, of this size."""
        scale = [self.constant(np.ones(size)), self.constant(np.zeros(size))]
        return self.node("LayerNormalization", [x, *scale])

    def last_norm(self, x: str) -> str:
        """Layer norm over channels, of a tensor with channels first."""
        y = self.node("Transpose", [x], perm=[0, 2, 3, 1])
        y = self.layer_norm(y, self.shapes[x][0])
        return self.node("Transpose", [y], perm=[0, 3, 1, 2])

    def shuffled(self, parts: Sequence[str]) -> str:
        x = self.concat(parts)
        channels, side = self.shapes[x]
        apart = self.constant(np.array([self.batch, 2, channels // 2, side, side]), np.int64)
        together = self.constant(np.array([self.batch, channels, side, side]), np.int64)
        y = self.node("Reshape", [x, apart])
        y = self.node("Transpose", [y], perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", [y, together])

    def split(self, x: str) -> tuple[str, str]:
        channels, side = self.shapes[x]
        name = f"Split_{len(self.nodes)}"
        outputs = [f"{name}.0", f"{name}.1"]
        sizes = self.constant(np.array([channels // 2] * 2), np.int64)
        self.nodes.append(helper.make_node("Split", [x, sizes], outputs, name=name, axis=1))
        self.shapes |= dict.fromkeys(outputs, (channels // 2, side))
        return outputs[0], outputs[1]

    def concat(self, parts: Sequence[str]) -> str:
        channels = sum(self.shapes[part][0] for part in parts)
        return self.node("Concat", parts, shape=(channels, self.shapes[parts[0]][1]), axis=1)

    def max_pool(self, x: str, kernel: int, stride: int) -> str:
        channels, side = self.shapes[x]
        padding = (kernel - 1) // 2
        shape = (channels, (side + 2 * padding - kernel) // stride + 1)
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
        return self.node("MaxPool", [x], shape=shape, **sizes)

    def average_pool(self, x: str, stride: int = 2) -> str:
        """Of 2x2 windows; of 3x3, padded, where the stride is 1."""
        channels, side = self.shapes[x]
        sizes = {"kernel_shape": [2, 2], "strides": [2, 2]}
        if stride == 1:
            sizes = {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]}
        return self.node("AveragePool", [x], shape=(channels, side // stride), **sizes)

    def resize(self, x: str) -> str:
        """To twice the side."""
        channels, side = self.shapes[x]
        how = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        scales = self.constant(np.array([1, 1, 2, 2]))
        return self.node("Resize", [x, "", scales], shape=(channels, 2 * side), **how)

    def conv_transpose(self, x: str, outside: int) -> str:
        """To twice the side, by 2x2 windows."""
        channels, side = self.shapes[x]
        weight, count = self.normal((channels, outside, 2, 2))
        self.macs += count * side**2
        sizes = {"kernel_shape": [2, 2], "strides": [2, 2]}
        return self.node("ConvTranspose", [x, weight], shape=(outside, 2 * side), **sizes)

    def integers(self, *numbers: int) -> str:
        return self.constant(np.array(numbers), np.int64)

    def conv(
        self,
        x: str,
        outside: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = None,
    ) -> str:
        inside, side = self.shapes[x]
        padding = 0 if kernel == stride else kernel // 2
        out_side = (side + 2 * padding - kernel) // stride + 1
        weight = self.normal((outside, inside // groups, kernel, kernel))
        self.macs += weight[1] * out_side**2
        y = self.node(
            "Conv",
            [x, weight[0], self.constant(np.zeros(outside))],
            shape=(outside, out_side),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            group=groups,
        )
        return self.activate(y, self.activation if activation is None else activation)

    def linear(self, x: str, inside: int, outside: int) -> str:
        weight = self.normal((outside, inside))[0]
        return self.node("Gemm", [x, weight, self.constant(np.zeros(outside))], transB=1)

    def matmul(self, x: str, inside: int, outside: int, side: int) -> str:
        weight, count = self.normal((inside, outside))
        self.macs += count * side**2
        y = self.node("MatMul", [x, weight])
        return self.node("Add", [y, self.constant(np.zeros(outside))])

    def gelu(self, x: str) -> str:
        numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
        root, one, half = (self.constant(np.array(number)) for number in numbers.values())
        y = self.node("Erf", [self.node("Div", [x, root])])
        return self.node("Mul", [self.node("Mul", [x, self.node("Add", [y, one])]), half])

    def activate(self, x: str, kind: str) -> str:
        writers: dict[str, Callable[[], str]] = {
            "none": lambda: x,
            "relu": lambda: self.node("Relu", [x]),
            "relu6": lambda: self.node(
                "Clip", [x, self.constant(np.array(0)), self.constant(np.array(6))]
            ),
            "h_swish": lambda: self.node("HardSwish", [x]),
            "h_sigmoid": lambda: self.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5),
            "sigmoid": lambda: self.node("Sigmoid", [x]),
            "silu": lambda: self.node("Mul", [x, self.node("Sigmoid", [x])]),
            "gelu": lambda: self.gelu(x),
        }
        return writers[kind]()

    def node(
        self, kind: str, inputs: Sequence[str], shape: tuple[int, int] | None = None, **attributes
    ) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        self.shapes[name] = shape or self.shapes.get(inputs[0], (0, 0))
        return name

    def constant(self, value: NDArray, kind: type[np.generic] = np.float32) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value.astype(kind), name))
        return name

    def normal(self, shape: tuple[int, ...]) -> tuple[str, int]:
        """The name of a weight, scaled as He et al. (ICCV 2015), and how many numbers it has."""
        count = int(np.prod(shape))
        scale = np.sqrt(2 / max(1, count // shape[0]))
        weight = self.generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        return self.constant(weight), count
