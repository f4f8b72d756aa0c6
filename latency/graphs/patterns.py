"""Patterns that exporters split into several nodes and runtimes fuse again: one step each.

    silu      x * sigmoid(x)
    h_swish   x * hard_sigmoid(x), x * relu6(x + 3) / 6
    gelu      x * (1 + erf(x / sqrt 2)) / 2
    relu6     clip(x, 0, 6)

Steps that cost nothing (reshapes, identities) are left out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from latency.graphs.folding import Sizes
from latency.graphs.reader import Graph, Node

FREE = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Kinds of nodes that only give a tensor another name or shape."""

ACTIVATIONS = {
    "relu": ("Relu", "LeakyRelu", "PRelu", "ThresholdedRelu"),
    "relu6": ("Clip",),
    "h_swish": ("HardSwish",),
    "h_sigmoid": ("HardSigmoid",),
    "silu": ("Silu", "Swish", "Mish"),
    "sigmoid": ("Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Softplus", "Erf", "Exp"),
    "gelu": ("Gelu",),
}
"""Activations, each with the kinds of nodes that cost as much."""
_ACTIVATION_OF = {kind: name for name, kinds in ACTIVATIONS.items() for kind in kinds}
_NEVER_FUSED = ("ThresholdedRelu", "Mish", "Elu", "Selu", "Celu", "Softplus", "Erf", "Exp")
"""Kinds of activations of which no table says whether a runtime fuses them."""
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow")


@dataclass(frozen=True)
class Step:
    """One operation on tensors: `kind` is "activation" or ONNX's name. `nodes`: the names of its
    nodes. `shapes`: of the inputs that depend on the network's input; `weights`: of the others.
    `constants`: by position, values of the others; None for large ones."""

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
            if node.kind in ("Mul", "Div"):
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
        activation = _ACTIVATION_OF.get(node.kind, "none")
        kind = node.kind if activation == "none" else "activation"
        return self._step(kind, [node], self._data(node), activation)

    def _step(
        self, kind: str, nodes: Sequence[Node], inputs: tuple[str, ...], activation: str
    ) -> Step:
        """The step of these nodes, of which the last one writes the output."""
        shapes, constants, last = self.graph.shapes, self.graph.constants, nodes[-1]
        return Step(
            kind,
            tuple(node.name for node in nodes),
            inputs,
            last.outputs[0],
            tuple(shapes[name] for name in inputs),
            shapes[last.outputs[0]],
            tuple(shapes[name] for name in last.inputs if name in constants and name in shapes),
            activation,
            last.attributes,
            last.kind not in _NEVER_FUSED,
            {at: constants[name] for at, name in enumerate(last.inputs) if name in constants},
        )

    def _data(self, node: Node) -> tuple[str, ...]:
        """Inputs that depend on the network's input."""
        return tuple(n for n in node.inputs if n and n not in self.graph.constants)

    def _find_pattern(self, last: Node) -> None:
        """Note the activation that ends with a product, if one does."""
        found = self._gated(last) or self._gelu(last)
        if found:
            activation, nodes, source = found
            step = self._step("activation", [*nodes, last], (source,), activation)
            self.taken[last.outputs[0]] = step
            self.inside.update(node.outputs[0] for node in nodes)

    def _gated(self, last: Node) -> tuple[str, list[Node], str] | None:
        """x * sigmoid(x), x * hard_sigmoid(x), and the latter written with a clip."""
        nodes: list[Node] = []
        product: Node | None = last
        if self._has_number(last):  # / 6 after the product
            product = self._writer(self._data(last)[0])
            nodes += [product] if product else []
        data = self._data(product) if product else ()
        if product is None or product.kind != "Mul" or len(data) != 2:
            return None
        for source, gated in (data, data[::-1]):
            gate = self._writer(gated)
            chain: list[Node] = []
            while gate is not None and gate.kind in (*_ARITHMETIC, "Clip"):
                chain.append(gate)
                inside = self._data(gate)
                if inside == (source,) and any(node.kind == "Clip" for node in chain):
                    return "h_swish", [*chain, *nodes], source
                gate = self._writer(inside[0]) if len(inside) == 1 else None
            if gate is None or self._data(gate) != (source,):
                continue
            if gate.kind == "HardSigmoid":
                return "h_swish", [gate, *chain, *nodes], source
            if gate.kind == "Sigmoid" and not chain:
                return "silu", [gate, *nodes], source
        return None

    def _gelu(self, last: Node) -> tuple[str, list[Node], str] | None:
        """All between an Erf and the product that ends it, if they start from one tensor."""
        nodes: list[Node] = []
        sources: set[str] = set()
        left = list(self._data(last))
        while left and len(nodes) < 6:
            name = left.pop()
            node = self._writer(name)
            if node is not None and node.kind in (*_ARITHMETIC, "Erf"):
                nodes.append(node)
                left.extend(self._data(node))
            else:
                sources.add(name)
        kinds = Counter(node.kind for node in nodes)
        if left or kinds["Erf"] != 1 or len(sources) != 1:
            return None
        return "gelu", nodes, sources.pop()

    def _writer(self, name: str) -> Node | None:
        """The node that writes a tensor; None if another one reads that as well."""
        node = self.writers.get(name)
        if node is None or len(self.readers.get(node.outputs[0], ())) != 1:
            return None
        return None if node.outputs[0] in self.graph.outputs else node

    def _has_number(self, node: Node) -> bool:
        """Whether one of a node's two inputs is a constant number."""
        values = [self.graph.constants.get(name) for name in node.inputs]
        is_number = any(value is not None and value.size == 1 for value in values)
        return is_number and len(self._data(node)) == 1
