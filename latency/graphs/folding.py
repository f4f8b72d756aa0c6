"""Shapes of all tensors of an ONNX graph, and values of the constants among them.

Exporters write `x.shape[1] // 2` as nodes, of which ONNX's own shape inference follows some. The
others are evaluated here, node by node in order, so that the shapes of what follows are known.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.errors import SpecError

Sizes = tuple[int, ...]

_FOLDED = (
    *("Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Identity", "Reshape"),
    *("Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Mod", "Max", "Min", "Neg", "Range"),
    *("ReduceProd", "Equal", "Where", "ConstantOfShape", "Expand"),
)
MOST_NUMBERS = 1 << 34
"""No tensor has more: a larger shape is a mistake, or an attack."""
_MOST_KEPT = 64
"""Largest constant whose value is kept, in numbers: shapes, axes, scales, limits."""
_LARGEST = 1 << 40


def infer_shapes(model: Any) -> Any:
    """The model with the shapes that ONNX's shape inference finds, without large weights. Raises
    `SpecError` for shapes that contradict each other."""
    from google.protobuf.message import Error
    from onnx import TensorProto, shape_inference

    for tensor in model.graph.initializer:
        if numbers_of(tensor.dims) > _MOST_KEPT or tensor.external_data:
            kept = {"name": tensor.name, "data_type": tensor.data_type, "dims": tensor.dims}
            tensor.CopyFrom(TensorProto(**kept))
    try:
        # ONNX's own propagation of values would allocate whatever a hostile file asks for.
        return shape_inference.infer_shapes(model)
    except (shape_inference.InferenceError, Error, ValueError, RuntimeError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SpecError(f"its shapes contradict each other: {lines[-1][:200]}") from None


def numbers_of(dims: Sequence[int]) -> int:
    """How many numbers a tensor of these sizes has."""
    return math.prod(max(0, size) for size in dims)


class Tensors:
    """What is known of a graph's tensors; its nodes are visited in order.

    `shapes` and `types` (ONNX's element types): of all tensors whose sizes are known.
    `constants`: the tensors that do not depend on the network's input, with their values; None for
    large ones.
    """

    def __init__(self, model: Any) -> None:
        graph = model.graph
        self.opsets = model.opset_import
        self.shapes: dict[str, Sizes] = {}
        self.types: dict[str, int] = {}
        self.constants: dict[str, NDArray[Any] | None] = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self._note(value)
        for tensor in graph.initializer:
            self._note_constant(tensor.name, tensor)

    def visit(self, node: Any) -> bool:
        """Infer shapes, and values of constants, of a node's outputs; its inputs are visited
        before. True if the outputs do not depend on the network's input."""
        read = {name for name in node.input if name}
        known = self.shapes if node.op_type in ("Shape", "Size") else {}
        is_constant = all(name in self.constants or name in known for name in read)
        if is_constant:
            self.constants.update(dict.fromkeys(node.output))
            self._evaluate(node, read)
        if not self.shapes.keys() >= {name for name in node.output if name}:
            self._infer(node, read)
        return is_constant

    def _note(self, value: Any) -> None:
        """The shape of a `ValueInfoProto`, if all its sizes are known."""
        kind = value.type.tensor_type
        sizes = tuple(dim.dim_value for dim in kind.shape.dim)
        if not kind.HasField("shape") or not all(size > 0 for size in sizes):
            return
        if numbers_of(sizes) > MOST_NUMBERS:
            raise SpecError(f"tensor '{value.name}' of {sizes} is too large")
        self.shapes[value.name], self.types[value.name] = sizes, kind.elem_type

    def _note_constant(self, name: str, tensor: Any) -> None:
        from onnx import numpy_helper

        self.shapes[name], self.types[name] = tuple(tensor.dims), tensor.data_type
        self.constants[name] = None
        if numbers_of(tensor.dims) <= _MOST_KEPT and not tensor.external_data:
            with suppress(ValueError, TypeError, KeyError):  # broken: only its shape is known
                self.constants[name] = numpy_helper.to_array(tensor)

    def _evaluate(self, node: Any, read: set[str]) -> None:
        """The value of a constant, if it may be a shape."""
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        inputs = {name: self.constants.get(name) for name in read}
        try:
            if node.op_type == "Constant":
                self._note_constant(node.output[0], _constant(node))
                return
            if node.op_type == "Shape":
                ends = {attribute.name: attribute.i for attribute in node.attribute}
                shape = self.shapes[node.input[0]]
                part = shape[ends.get("start", 0) : ends.get("end", len(shape))]
                value: Any = np.array(part, np.int64)
            elif node.op_type in _FOLDED and not node.domain and _may_evaluate(node, inputs):
                (value,) = ReferenceEvaluator(self._alone(node, read)).run(None, inputs)
            else:
                return
            value = np.asarray(value)
            if value.size <= _MOST_KEPT and np.abs(value).max(initial=0) <= _LARGEST:
                self._note_constant(node.output[0], numpy_helper.from_array(value))
        except Exception:  # an operator may raise anything for hostile values: it is not folded
            return

    def _infer(self, node: Any, read: set[str]) -> None:
        """The shapes of a node's outputs, from the shapes and values of its inputs."""
        from onnx import shape_inference

        try:
            model = shape_inference.infer_shapes(self._alone(node, read))
        except Exception:  # an unknown operator, or unsuitable inputs: its shape stays unknown
            return
        for value in model.graph.output:
            self._note(value)

    def _alone(self, node: Any, read: set[str]) -> Any:
        """A model of one node."""
        from onnx import TypeProto, helper, numpy_helper

        inputs = [helper.make_tensor_value_info(n, self.types[n], self.shapes[n]) for n in read]
        outputs = [helper.make_value_info(name, TypeProto()) for name in node.output if name]
        values = {name: self.constants.get(name) for name in read}
        known = [numpy_helper.from_array(v, name) for name, v in values.items() if v is not None]
        graph = helper.make_graph([node], "node", inputs, outputs, known)
        return helper.make_model(graph, opset_imports=self.opsets)


def _constant(node: Any) -> Any:
    """The `TensorProto` of a `Constant`."""
    from onnx import helper, numpy_helper

    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return value
    kind = np.float32 if attribute.name.startswith("value_float") else np.int64
    return numpy_helper.from_array(np.array(value, kind))


def _may_evaluate(node: Any, inputs: dict[str, NDArray[Any] | None]) -> bool:
    """Whether all inputs are known and the output is small."""
    if any(value is None for value in inputs.values()):
        return False
    given = [np.asarray(inputs[name], np.float64).ravel() for name in node.input if name]
    with np.errstate(all="ignore"):
        if node.op_type == "Range":
            start, limit, delta = (float(value[0]) for value in given)
            return abs(limit - start) <= _MOST_KEPT * abs(delta)
        if node.op_type in ("ConstantOfShape", "Expand"):
            return float(np.prod(given[-1])) <= _MOST_KEPT
    return True
