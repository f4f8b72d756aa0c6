"""Shapes that an ONNX graph computes for itself, turned into constants.

Exporters write `x.shape[1] // 2` as nodes; ONNX's own shape inference follows some of them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOLDED = (
    *("Constant", "Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast"),
    *("Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Mod", "Max", "Min", "Neg", "Range"),
    *("ReduceProd", "Identity", "Reshape", "Equal", "Where", "ConstantOfShape", "Expand"),
)
_MOST_NUMBERS = 64
_LARGEST = 1 << 40


def fold_shapes(graph: Any) -> bool:
    """Replace nodes of a `GraphProto` that compute small integers from known shapes by constants,
    where a tensor's shape is still unknown; whether there was any to replace."""
    known = _known_shapes(graph)
    written = {name for node in graph.node for name in node.output if name}
    if written <= known.keys():
        return False
    folding = _Folding(graph, known)
    kept = [node for node in graph.node if not folding.fold(node)]
    if len(kept) == len(graph.node):
        return False
    folding.store(kept)
    return True


class _Folding:
    """Values of small tensors, while the nodes that compute them are taken out."""

    def __init__(self, graph: Any, shapes: dict[str, tuple[int, ...]]) -> None:
        from onnx import numpy_helper

        self.graph, self.shapes = graph, shapes
        self.outputs = {value.name for value in graph.output}
        self.new: dict[str, NDArray[Any]] = {}
        self.values: dict[str, NDArray[Any]] = {}
        for tensor in graph.initializer:
            if int(np.prod(tensor.dims, dtype=np.float64)) <= _MOST_NUMBERS:
                try:
                    self.values[tensor.name] = numpy_helper.to_array(tensor)
                except (ValueError, TypeError, KeyError):
                    continue

    def fold(self, node: Any) -> bool:
        """Take a node in; False where its value is not known or no small integers."""
        if node.op_type not in _FOLDED or len(node.output) != 1 or node.domain:
            return False
        if node.output[0] in self.outputs:
            return False
        value = self._value(node)
        if value is None or value.size > _MOST_NUMBERS or np.abs(value).max(initial=0) > _LARGEST:
            return False
        if value.dtype.kind not in "ib" and node.op_type != "Cast" and value.size > 1:
            return False
        self.values[node.output[0]] = self.new[node.output[0]] = value
        return True

    def store(self, kept: list[Any]) -> None:
        """Write the graph without the nodes that were taken in."""
        from onnx import numpy_helper

        read = {name for node in kept for name in node.input}
        copies = [type(node).FromString(node.SerializeToString()) for node in kept]
        del self.graph.node[:]
        self.graph.node.extend(copies)
        stale = [value for value in self.graph.value_info if value.name not in self.new]
        stale = [type(value).FromString(value.SerializeToString()) for value in stale]
        del self.graph.value_info[:]
        self.graph.value_info.extend(stale)
        for name, value in self.new.items():
            if name in read:
                self.graph.initializer.append(numpy_helper.from_array(value, name))

    def _value(self, node: Any) -> NDArray[Any] | None:
        from onnx.reference import ReferenceEvaluator

        if node.op_type == "Shape":
            shape = self.shapes.get(node.input[0])
            if shape is None:
                return None
            ends: dict[str, int] = {one.name: one.i for one in node.attribute}
            part = shape[ends.get("start", 0) : ends.get("end", len(shape))]
            return np.array(part, np.int64)
        inputs = {name: self.values.get(name) for name in node.input if name}
        if any(value is None for value in inputs.values()):
            return None
        try:
            if not _is_small(node.op_type, inputs.values()):
                return None
            found: Any = ReferenceEvaluator(_alone(node, inputs)).run(None, inputs)
            return np.asarray(found[0])
        except Exception:  # whatever an operator finds wrong with hostile values: it is not folded
            return None


def _is_small(kind: str, inputs: Iterable[Any]) -> bool:
    """Whether a node of one of those kinds that make many numbers of a few does not."""
    given = [np.asarray(value, np.float64).ravel() for value in inputs]
    with np.errstate(all="ignore"):
        if kind == "Range":
            start, limit, delta = (float(value[0]) for value in given)
            return abs(limit - start) <= _MOST_NUMBERS * abs(delta)
        if kind in ("ConstantOfShape", "Expand"):
            return float(np.prod(given[-1])) <= _MOST_NUMBERS
    return True


def _known_shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(dim.dim_value > 0 for dim in kind.shape.dim):
            known[value.name] = tuple(dim.dim_value for dim in kind.shape.dim)
    return known


def _alone(node: Any, inputs: dict[str, Any]) -> Any:
    """A model of one node."""
    from onnx import helper

    declared = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in inputs.items()
    ]
    output = [helper.make_value_info(node.output[0], helper.make_tensor_type_proto(0, None))]
    graph = helper.make_graph([node], "shape", declared, output)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
