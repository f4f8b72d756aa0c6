"""Shapes that an ONNX graph computes for itself, turned into constants.

Exporters write `x.shape[1] // 2` as nodes; ONNX's own shape inference follows some of them. Nodes
are visited once, in order, so that computed shapes are known to the nodes that follow.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.errors import SpecError

_FOLDED = (
    *("Constant", "Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast"),
    *("Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Mod", "Max", "Min", "Neg", "Range"),
    *("ReduceProd", "Identity", "Reshape", "Equal", "Where", "ConstantOfShape", "Expand"),
)
MOST_KEPT = 64
"""Largest constant that is kept, in numbers: shapes, axes, scales, limits."""
_MOST_ROUNDS = 8
"""Of folding shapes, all of which are found in the first one or two."""
_LARGEST = 1 << 40


def infer_shapes(model: Any, where: str) -> Any:
    """The model with the shapes that follow from its inputs; weights are dropped, their shapes
    and the small ones, which may be shapes themselves, kept. `SpecError`, which names `where`, for
    shapes that contradict each other."""
    from google.protobuf.message import Error
    from onnx import shape_inference

    for tensor in model.graph.initializer:
        if numbers_of(tensor.dims) > MOST_KEPT or tensor.external_data:
            for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
                tensor.ClearField(name)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    try:
        # ONNX's own propagation of values would allocate whatever a hostile file asks for.
        model = shape_inference.infer_shapes(model)
        for _ in range(_MOST_ROUNDS):
            if not fold_shapes(model):
                break
            model = shape_inference.infer_shapes(model)
        return model
    except (shape_inference.InferenceError, Error, ValueError, RuntimeError, TypeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SpecError(f"{where}: its shapes contradict each other: {lines[-1][:200]}") from None


def numbers_of(dims: Sequence[int]) -> int:
    """How many numbers a tensor of these sizes has."""
    total = 1
    for size in dims:
        total *= max(0, size)
    return total


def fold_shapes(model: Any) -> bool:
    """Replace nodes of a `ModelProto` that compute small integers from known shapes by constants,
    where a tensor's shape is still unknown; whether there was any to replace."""
    graph, opsets = model.graph, {one.domain: one.version for one in model.opset_import}
    known = _known_types(graph)
    written = {name for node in graph.node for name in node.output if name}
    if written <= known.keys():
        return False
    folding = _Folding(graph, known, opsets)
    kept = [node for node in graph.node if not folding.fold(node)]
    if len(kept) == len(graph.node):
        return False
    folding.store(kept)
    return True


class _Folding:
    """Types of tensors whose shapes are known, and values of small ones, while the nodes that
    compute these are taken out. `opsets`: versions of operators, by domain."""

    def __init__(self, graph: Any, types: dict[str, Any], opsets: dict[str, int]) -> None:
        from onnx import numpy_helper

        self.graph, self.types, self.opsets = graph, types, opsets
        self.outputs = {value.name for value in graph.output}
        self.new: dict[str, NDArray[Any]] = {}
        self.values: dict[str, NDArray[Any]] = {}
        for tensor in graph.initializer:
            if int(np.prod(tensor.dims, dtype=np.float64)) <= MOST_KEPT:
                try:
                    self.values[tensor.name] = numpy_helper.to_array(tensor)
                except (ValueError, TypeError, KeyError):
                    continue

    def fold(self, node: Any) -> bool:
        """Take a node in; False where its value is not known or no small integers: then the shapes
        of its outputs are noted."""
        value = self._small_integers(node)
        if value is None:
            self._note(node)
            return False
        name = node.output[0]
        self.values[name] = self.new[name] = value
        self.types[name] = _type_of(value)
        return True

    def _small_integers(self, node: Any) -> NDArray[Any] | None:
        """The value that a node computes, if it may be a shape."""
        if node.op_type not in _FOLDED or len(node.output) != 1 or node.domain:
            return None
        if node.output[0] in self.outputs:
            return None
        value = self._value(node)
        if value is None or value.size > MOST_KEPT or np.abs(value).max(initial=0) > _LARGEST:
            return None
        if value.dtype.kind not in "ib" and node.op_type != "Cast" and value.size > 1:
            return None
        return value

    def _note(self, node: Any) -> None:
        """The shapes of a node's outputs, by those of its inputs, where they are not known yet."""
        from onnx import defs, numpy_helper, shape_inference

        read, written = ([name for name in names if name] for names in (node.input, node.output))
        if not self.types.keys() >= {*read} or self.types.keys() >= {*written}:
            return
        inputs = {name: self.types[name] for name in read}
        values = {name: self.values[name] for name in inputs if name in self.values}
        data = {name: numpy_helper.from_array(value, name) for name, value in values.items()}
        try:
            schema = defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
            found = shape_inference.infer_node_outputs(schema, node, inputs, data)
        except Exception:  # no such operator, or one of ill-fitting inputs: its shape stays unknown
            return
        self.types.update({name: kind for name, kind in found.items() if _is_known(kind)})

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
            if node.input[0] not in self.types:
                return None
            shape = tuple(dim.dim_value for dim in _dims(self.types[node.input[0]]))
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
            return abs(limit - start) <= MOST_KEPT * abs(delta)
        if kind in ("ConstantOfShape", "Expand"):
            return float(np.prod(given[-1])) <= MOST_KEPT
    return True


def _known_types(graph: Any) -> dict[str, Any]:
    from onnx import helper

    known = {
        tensor.name: helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        for tensor in graph.initializer
    }
    for value in (*graph.input, *graph.value_info, *graph.output):
        if _is_known(value.type):
            known[value.name] = value.type
    return known


def _dims(kind: Any) -> Any:
    return kind.tensor_type.shape.dim


def _is_known(kind: Any) -> bool:
    return kind.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in _dims(kind))


def _type_of(value: NDArray[Any]) -> Any:
    from onnx import helper

    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)


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
