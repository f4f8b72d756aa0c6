"""Patterns that exporters split into several nodes and runtimes fuse again: one step each.

    silu      x * sigmoid(x)
    h_swish   x * hard_sigmoid(x), x * relu6(x + 3) / 6
    gelu      x * (1 + erf(x / sqrt 2)) / 2
    relu6     clip(x, 0, 6)

Steps that cost nothing (reshapes, identities) are left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency.graphs.folding import Sizes
from latency.graphs.reader import Graph, Node

FREE = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Kinds of nodes that only give a tensor another name or shape."""

_ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "relu",
    "PRelu": "relu",
    "ThresholdedRelu": "relu",
    "Sigmoid": "sigmoid",
    "HardSigmoid": "h_sigmoid",
    "HardSwish": "h_swish",
    "Gelu": "gelu",
    "Silu": "silu",
    "Swish": "silu",
    "Mish": "silu",
    "Tanh": "sigmoid",
    "Elu": "sigmoid",
    "Selu": "sigmoid",
    "Celu": "sigmoid",
    "Softplus": "sigmoid",
    "Erf": "sigmoid",
    "Exp": "sigmoid",
}
"""Each with the activation of ours that it costs as much as."""
_STAND_INS = ("ThresholdedRelu", "Mish", "Elu", "Selu", "Celu", "Softplus", "Erf", "Exp")
"""Those among them of which nobody measured whether a runtime fuses them."""
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")


@dataclass(frozen=True)
class Step:
    """One operation on tensors: `kind` is "activation" or ONNX's name. `nodes`: those that it
    stands for. `shapes`: of the inputs that depend on the network's input; `weights`: of the
    others. `constants`: by position, values of the others; None of large ones."""

    kind: str
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    shapes: tuple[Sizes, ...]
    out_shape: Sizes
    weights: tuple[Sizes, ...] = ()
    activation: str = "none"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    may_fuse: bool = True
    constants: Mapping[int, NDArray[Any] | None] = field(default_factory=dict)


def steps_of(graph: Graph) -> tuple[Step, ...]:
    """The steps of a graph, in an order in which they can be executed."""
    return _Simplifier(graph).steps()


class _Simplifier:
    """Nodes by what they write and who reads it, while patterns are looked for."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writers = {name: node for node in graph.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers.setdefault(name, []).append(node)
        self.names: dict[str, str] = {}
        """A tensor that is another one under a new name or shape."""
        self.taken: dict[str, Step] = {}
        """By a node's first output: the step that it is the last node of."""
        self.inside: set[str] = set()
        """First outputs of nodes that belong to the step of a later node."""

    def steps(self) -> tuple[Step, ...]:
        for node in self.graph.nodes:
            self._find_pattern(node)
        found = []
        for node in self.graph.nodes:
            if node.kind in FREE:
                self.names[node.outputs[0]] = self._origin(node.inputs[0])
            elif node.outputs[0] not in self.inside:
                step = self.taken.get(node.outputs[0]) or self._plain(node)
                found.append(replace(step, inputs=tuple(map(self._origin, step.inputs))))
                for other in node.outputs[1:]:
                    self.names[other] = step.output
        return tuple(found)

    def _origin(self, name: str) -> str:
        return self.names.get(name, name)

    def _plain(self, node: Node) -> Step:
        """A node as a step."""
        activation = _ACTIVATIONS.get(node.kind, "none")
        kind = "activation" if activation != "none" else node.kind
        if node.kind == "Clip":
            kind, activation = "activation", "relu6"
        step = self._step(kind, [node], self._data(node), node, activation)
        return replace(step, may_fuse=node.kind not in _STAND_INS)

    def _step(
        self,
        kind: str,
        nodes: Iterable[Node],
        inputs: Iterable[str],
        last: Node,
        activation: str = "none",
    ) -> Step:
        shapes = self.graph.shapes
        inputs = tuple(inputs)
        weights = [n for n in last.inputs if n in self.graph.constants and n in shapes]
        constants = {
            position: self.graph.constants[name]
            for position, name in enumerate(last.inputs)
            if name in self.graph.constants
        }
        return Step(
            kind,
            tuple(node.name for node in nodes),
            inputs,
            last.outputs[0],
            tuple(shapes[name] for name in inputs),
            shapes[last.outputs[0]],
            tuple(shapes[name] for name in weights),
            activation,
            last.attributes,
            constants=constants,
        )

    def _data(self, node: Node) -> tuple[str, ...]:
        """Inputs that depend on the network's input."""
        return tuple(n for n in node.inputs if n and n not in self.graph.constants)

    def _find_pattern(self, last: Node) -> None:
        """Note the activation that ends with this node, if one does."""
        if last.kind not in ("Mul", "Div"):
            return
        for find in (self._gated, self._gelu):
            if found := find(last):
                activation, nodes, source = found
                step = self._step("activation", [*nodes, last], [source], last, activation)
                self.taken[last.outputs[0]] = step
                self.inside.update(node.outputs[0] for node in nodes)
                return

    def _gated(self, last: Node) -> tuple[str, list[Node], str] | None:
        """x * sigmoid(x), x * hard_sigmoid(x), and the latter written with a clip."""
        nodes: list[Node] = []
        product = last
        if self._constant(last) is not None:  # / 6 behind the product
            before = self.writers.get(self._data(last)[0])
            if before is None or not self._only(before):
                return None
            product = before
            nodes.append(product)
        data = self._data(product)
        if product.kind != "Mul" or len(data) != 2:
            return None
        for source, gated in (data, data[::-1]):
            gate = self.writers.get(gated)
            chain = []
            while gate is not None and self._only(gate) and gate.kind in (*_ARITHMETIC, "Clip"):
                chain.append(gate)
                inside = self._data(gate)
                gate = (
                    self.writers.get(inside[0])
                    if len(inside) == 1 and inside[0] != source
                    else None
                )
                if inside == (source,) and any(node.kind == "Clip" for node in chain):
                    return "h_swish", [*chain, *nodes], source
            if gate is None or not self._only(gate) or self._data(gate) != (source,):
                continue
            if gate.kind == "HardSigmoid":
                return "h_swish", [gate, *chain, *nodes], source
            if gate.kind == "Sigmoid" and not chain:
                return "silu", [gate, *nodes], source
        return None

    def _gelu(self, last: Node) -> tuple[str, list[Node], str] | None:
        """All between an Erf and the product that ends it, where they start from one tensor."""
        nodes: list[Node] = []
        sources: set[str] = set()
        front = list(self._data(last))
        while front and len(nodes) < 6:
            name = front.pop()
            node = self.writers.get(name)
            if node is not None and node.kind in (*_ARITHMETIC, "Erf") and self._only(node):
                nodes.append(node)
                front.extend(self._data(node))
            else:
                sources.add(name)
        kinds = Counter(node.kind for node in nodes)
        if front or kinds["Erf"] != 1 or len(sources) != 1:
            return None
        return "gelu", nodes, sources.pop()

    def _only(self, node: Node) -> bool:
        """Whether one node alone reads what this one writes, and the network does not return it."""
        name = node.outputs[0]
        return len(self.readers.get(name, ())) == 1 and name not in self.graph.outputs

    def _constant(self, node: Node) -> float | None:
        """The one number among a node's inputs, None where there is none."""
        if len(self._data(node)) != 1:
            return None
        for name in node.inputs:
            value = self.graph.constants.get(name)
            if value is not None and value.size == 1:
                return float(np.asarray(value, float).reshape(()))
        return None
