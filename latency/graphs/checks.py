"""Checks of an ONNX file before anything else reads it."""

from typing import Any

from latency.errors import SpecError

_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_KEEPS_NUMBERS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")


def check_model(model: Any) -> None:
    """Raise `SpecError` for a `ModelProto` whose latency no table predicts: one with control flow,
    with local functions, or quantised."""
    graph = model.graph
    if not _is_text(model):
        raise SpecError("damaged: a name in it is not text in UTF-8")
    for node in graph.node:
        if node.op_type in _CONTROL_FLOW:
            raise SpecError(
                f"node '{node.name}' is an {node.op_type}: the latency of a network with "
                "control flow depends on its input; export the branch that is taken"
            )
    if model.functions:
        raise SpecError(
            f"has local functions ('{model.functions[0].name}'); inline them: "
            "onnx.inliner.inline_local_functions"
        )
    quantised = _quantised(graph)
    if quantised is not None:
        raise SpecError(
            f"node '{quantised.name}' ({quantised.op_type}) computes in 8-bit integers, "
            "as no kernel of a table does; predict the network as it was before it was quantised"
        )


def _is_text(model: Any) -> bool:
    """Whether all names are text; protobuf returns others as bytes, or raises."""
    graph = model.graph
    named = (graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    try:
        names = [one.name for one in (*named, *model.functions)]
        for node in graph.node:
            names += [node.op_type, node.domain, node.name, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
    except UnicodeDecodeError:
        return False
    return all(isinstance(name, str) for name in names)


def _quantised(graph: Any) -> Any | None:
    """The first node that computes in integers: an integer operator, or a product of two tensors
    that are dequantised for it alone, which runtimes fuse."""
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
