"""ONNX graphs, node by node: what every ONNX file of this project is written with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from latency.errors import SpecError

OPSET = 17
IR_VERSION = 9
"""Old enough for every ONNX Runtime of the last years, new enough for HardSwish."""


class GraphWriter:
    """The nodes and constants of a graph while it is written. Tensors are names.

    A method that appends takes the tensors that it reads and returns the one that it writes, which
    has the name of its node. Where no `name` is given, nodes are named by kind and number
    ("Conv_3"), constants by number ("w7"); the parts of what is named are named after it
    ("3.gelu.erf"). `dtype`: of the constants that are not integers, of inputs and outputs.
    """

    def __init__(self, dtype: type[np.floating] = np.float32) -> None:
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """A node of one output."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def outputs(self, kind: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """The outputs of a node that has several."""
        name = f"{kind}_{len(self.nodes)}"
        names = [f"{name}.{position}" for position in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=name, **attributes))
        return names

    def constant(
        self, value: ArrayLike, name: str = "", dtype: type[np.generic] | None = None
    ) -> str:
        """A constant: int64 where it holds integers, `self.dtype` elsewhere, or `dtype`."""
        name = name or f"w{len(self.constants)}"
        array = np.asarray(value)
        kind = dtype or (np.int64 if array.dtype.kind == "i" else self.dtype)
        self.constants.append(numpy_helper.from_array(array.astype(kind), name))
        return name

    def activate(self, x: str, activation: str, name: str = "") -> str:
        """An activation of `latency.operators.kinds.ACTIVATIONS`, after the layer `name`. Raises
        `SpecError` for another one."""
        own = _part(name, activation)
        match activation:
            case "none":
                return x
            case "relu":
                return self.node("Relu", [x], own)
            case "relu6":
                ends = [
                    self.constant(0.0, _part(own, "low")),
                    self.constant(6.0, _part(own, "high")),
                ]
                return self.node("Clip", [x, *ends], own)
            case "h_swish":
                return self.node("HardSwish", [x], own)
            case "h_sigmoid":
                return self.node("HardSigmoid", [x], own, alpha=1 / 6, beta=0.5)
            case "gelu":
                return self.gelu(x, own)
            case "sigmoid" | "silu":
                gate = self.node("Sigmoid", [x], _part(name, "sigmoid"))
                return gate if activation == "sigmoid" else self.node("Mul", [x, gate], own)
        raise SpecError(f"activation '{activation}' cannot be written to an ONNX file")

    def gelu(self, x: str, name: str = "") -> str:
        """The exact one, as torch exports it and as ONNX Runtime knows it again as one node."""
        numbers = {"root": 2**0.5, "one": 1.0, "half": 0.5}
        root, one, half = (self.constant(n, _part(name, key)) for key, n in numbers.items())
        scaled = self.node("Div", [x, root], _part(name, "scaled"))
        erf = self.node("Erf", [scaled], _part(name, "erf"))
        share = self.node("Add", [erf, one], _part(name, "share"))
        doubled = self.node("Mul", [x, share], _part(name, "doubled"))
        return self.node("Mul", [doubled, half], name)

    def matmul(self, x: str, weight: NDArray, bias: NDArray, name: str = "") -> str:
        """Along the last axis; weight: (inputs, outputs)."""
        columns = self.constant(weight, _part(name, "weight"))
        product = self.node("MatMul", [x, columns], _part(name, "product"))
        return self.node("Add", [product, self.constant(bias, _part(name, "bias"))], name)

    def channels_last(self, x: str, name: str = "") -> str:
        """(batch, channels, height, width) to (batch, height, width, channels)."""
        return self.node("Transpose", [x], name, perm=[0, 2, 3, 1])

    def channels_first(self, x: str, name: str = "") -> str:
        """(batch, height, width, channels) to (batch, channels, height, width)."""
        return self.node("Transpose", [x], name, perm=[0, 3, 1, 2])

    def shuffle(self, x: str, groups: int, shape: Sequence[int], name: str = "") -> str:
        """Channels of all groups in turn (Zhang et al., ShuffleNet, CVPR 2018). `shape`: (batch,
        channels, height, width), with 0 for whatever batch there is."""
        batch, channels, height, width = shape
        sizes = [batch, groups, channels // groups, height, width]
        apart = self.constant(sizes, _part(name, "apart"))
        together = self.constant(shape, _part(name, "together"))
        grouped = self.node("Reshape", [x, apart], _part(name, "grouped"))
        turned = self.node("Transpose", [grouped], _part(name, "turned"), perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", [turned, together], name)

    def upsample(self, x: str, factor: int, name: str = "") -> str:
        """Nearest neighbours, to `factor` times the height and width."""
        scales = self.constant([1, 1, factor, factor], _part(name, "scales"), np.float32)
        rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, "", scales], name, mode="nearest", **rule)

    def proto(
        self,
        name: str,
        inputs: Mapping[str, Sequence[int]],
        outputs: Mapping[str, Sequence[int] | None],
        opset: int = OPSET,
    ) -> onnx.ModelProto:
        """The model of this graph; `inputs` and `outputs`: their sizes by name, None where the
        reader is to find them out."""
        tensor = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        sources, results = (
            [helper.make_tensor_value_info(key, tensor, sizes) for key, sizes in each.items()]
            for each in (inputs, outputs)
        )
        return helper.make_model(
            helper.make_graph(self.nodes, name, sources, results, self.constants),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=IR_VERSION,
        )


def _part(name: str, part: str) -> str:
    """The name of a part of what is named; none where that has none."""
    return f"{name}.{part}" if name else ""
