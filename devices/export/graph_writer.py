"""Writes ONNX graphs node by node."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 9
"""Old enough for every ONNX Runtime of recent years; HardSwish needs opset 14."""

_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "h_swish": ("HardSwish", {}),
    "h_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
}
"""Activations that are one node without constants."""


class GraphWriter:
    """The nodes and constants of a graph while it is written. Tensors are names.

    Methods that append a node take the names of its inputs and return the name of its output,
    which is also the name of the node. By default, nodes are named by kind and number ("Conv_3")
    and constants by number ("w7"). Inside a `scope`, every name starts with it ("3.expand.Conv_3").
    `dtype`: of inputs, outputs and all constants except integers.
    """

    def __init__(self, dtype: type[np.floating] = np.float32) -> None:
        self.dtype = dtype
        self.scope = ""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """A node with one output."""
        name = self._scoped(name or f"{kind}_{len(self.nodes)}")
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def outputs(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        name = self._scoped(f"{kind}_{len(self.nodes)}")
        names = [f"{name}.{position}" for position in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names

    def constant(
        self, value: ArrayLike, name: str = "", dtype: type[np.generic] | None = None
    ) -> str:
        """A constant of type `dtype`, by default int64 for integers and `self.dtype` otherwise."""
        name = self._scoped(name or f"w{len(self.constants)}")
        array = np.asarray(value)
        kind = dtype or (np.int64 if array.dtype.kind == "i" else self.dtype)
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def activate(self, x: str, activation: str) -> str:
        """One of `latency.operators.kinds.ACTIVATIONS`."""
        match activation:
            case "none":
                return x
            case "relu6":
                return self.node("Clip", [x, self.constant(0.0), self.constant(6.0)])
            case "gelu":
                return self.gelu(x)
            case "silu":
                return self.node("Mul", [x, self.node("Sigmoid", [x])])
        kind, attributes = _ACTIVATIONS[activation]
        return self.node(kind, [x], **attributes)

    def gelu(self, x: str) -> str:
        """The exact GELU as torch exports it; ONNX Runtime fuses these nodes into one."""
        root, one, half = (self.constant(value) for value in (2**0.5, 1.0, 0.5))
        erf = self.node("Erf", [self.node("Div", [x, root])])
        product = self.node("Mul", [x, self.node("Add", [erf, one])])
        return self.node("Mul", [product, half])

    def matmul(self, x: str, weight: NDArray, bias: NDArray) -> str:
        """Matrix product along the last axis; `weight`: (inputs, outputs)."""
        product = self.node("MatMul", [x, self.constant(weight)])
        return self.node("Add", [product, self.constant(bias)])

    def channels_last(self, x: str) -> str:
        """(batch, channels, height, width) to (batch, height, width, channels)."""
        return self.node("Transpose", [x], perm=[0, 2, 3, 1])

    def channels_first(self, x: str) -> str:
        """(batch, height, width, channels) to (batch, channels, height, width)."""
        return self.node("Transpose", [x], perm=[0, 3, 1, 2])

    def shuffle(self, x: str, groups: int, shape: Sequence[int]) -> str:
        """Shuffle channels between groups (Zhang et al., ShuffleNet, CVPR 2018). `shape`: (batch,
        channels, height, width), with 0 for any batch size."""
        batch, channels, height, width = shape
        split = self.constant([batch, groups, channels // groups, height, width])
        whole = self.constant(shape)
        transposed = self.node(
            "Transpose", [self.node("Reshape", [x, split])], perm=[0, 2, 1, 3, 4]
        )
        return self.node("Reshape", [transposed, whole])

    def upsample(self, x: str, factor: int) -> str:
        """Nearest neighbours, to `factor` times the height and width."""
        scales = self.constant([1, 1, factor, factor], dtype=np.float32)
        rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, "", scales], mode="nearest", **rule)

    def proto(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, Sequence[int] | None],
        opset: int = OPSET,
    ) -> onnx.ModelProto:
        """The model of this graph. `inputs` and `outputs`: shapes by name; None leaves an output's
        shape to shape inference."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        sources, results = (
            [helper.make_tensor_value_info(key, kind, shape) for key, shape in shapes.items()]
            for shapes in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, name, sources, results, self.constants)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _scoped(self, name: str) -> str:
        return f"{self.scope}.{name}" if self.scope else name
