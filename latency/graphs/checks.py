"""Checks of an ONNX file before anything else reads it."""

from typing import Any

from latency.errors import SpecError

MOST_NODES = 50_000
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEEPS_NUMBERS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")


def check_model(model: Any, where: str) -> None:
    """Raise `SpecError`, which names `where`, for a `ModelProto` whose latency no table can tell:
    of too many nodes, with control flow, functions of its own or sparse weights, or quantised."""
    graph = model.graph
    if not _is_text(graph, model.functions):
        raise SpecError(f"{where}: damaged: a name in it is not text in UTF-8")
    if len(graph.node) > MOST_NODES:
        raise SpecError(f"{where}: {len(graph.node)} nodes; at most {MOST_NODES} are read")
    for node in graph.node:
        if node.op_type in _CONTROL_FLOW:
            raise SpecError(
                f"{where}: node '{node.name}' is an {node.op_type}: the latency of a network with "
                "control flow depends on its input; export the branch that is taken"
            )
    if model.functions:
        raise SpecError(
            f"{where}: has functions of its own ('{model.functions[0].name}'); inline them: "
            "onnx.inliner.inline_local_functions"
        )
    if graph.sparse_initializer:
        raise SpecError(f"{where}: has sparse weights, which no table covers")
    quantised = _quantised(graph)
    if quantised is not None:
        raise SpecError(
            f"{where}: node '{quantised.name}' ({quantised.op_type}) computes in 8-bit integers, "
            "as no kernel of a table does; predict the network as it was before it was quantised"
        )


def _is_text(graph: Any, functions: Any) -> bool:
    """Whether all names are text; protobuf leaves others as bytes, or raises as they are read."""
    named = (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer, *functions)
    try:
        if not all(isinstance(one.name, str) for one in named):
            return False
        for node in graph.node:
            names = (node.op_type, node.domain, node.name, *node.input, *node.output)
            if not all(isinstance(name, str) for name in names):
                return False
            if not all(isinstance(attribute.name, str) for attribute in node.attribute):
                return False
    except UnicodeDecodeError:
        return False
    return True


def _quantised(graph: Any) -> Any | None:
    """The first node that works on integers: one that knows nothing else, or a product of two
    tensors that are dequantised for it alone, which runtimes take together."""
    dequantised: set[str] = set()
    for node in graph.node:
        is_of_integers = node.op_type.startswith("QLinear") or node.op_type.endswith("Integer")
        factors = set(node.input[:2])
        if is_of_integers or (node.op_type in _PRODUCTS and factors and factors <= dequantised):
            return node
        keeps = node.op_type in _KEEPS_NUMBERS and node.input and node.input[0] in dequantised
        if node.op_type == "DequantizeLinear" or keeps:
            dequantised.update(node.output)
    return None
