"""`NetworkSpec`: a named chain of operators, written to and read from JSON."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Self

from latency.errors import SpecError
from latency.files import read_text
from latency.operators.kinds import Shape
from latency.operators.spec import OpSpec

_MAX_BYTES = 8_000_000
"""Of a network's file; an operator has fifty."""


@dataclass(frozen=True)
class NetworkSpec:
    """Operators in order of execution; each one's output shape is the next one's input shape.

    `input_shape` is (height, width, channels). Raises `SpecError` where two neighbours do not
    fit together.
    """

    name: str
    input_shape: Shape
    ops: tuple[OpSpec, ...]

    def __post_init__(self) -> None:
        if not self.ops:
            raise SpecError(f"network '{self.name}' has no operators")
        shape = self.input_shape
        for position, op in enumerate(self.ops):
            if (op.height, op.width, op.in_channels) != shape:
                raise SpecError(
                    f"network '{self.name}': operator {position} ({op.key}) does not take "
                    f"{'x'.join(map(str, shape))}, the output before it"
                )
            shape = op.out_shape

    @classmethod
    def of(cls, name: str, ops: tuple[OpSpec, ...]) -> Self:
        """The network of these operators; its input is that of the first one."""
        first = ops[0]
        return cls(name, (first.height, first.width, first.in_channels), tuple(ops))

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.ops)

    @property
    def params(self) -> int:
        return sum(op.params for op in self.ops)

    @property
    def parts(self) -> tuple[OpSpec, ...]:
        """The operators whose latencies add up to the network's: `ops`, trees taken apart."""
        return tuple(part for op in self.ops for part in op.parts)

    @property
    def kernels(self) -> tuple[()]:
        """None, since its operators are not split (`latency.graphs.kernels.Network`)."""
        return ()

    @property
    def warnings(self) -> tuple[()]:
        """None, since nothing is approximated."""
        return ()

    @property
    def batch(self) -> int:
        return self.ops[0].batch

    def to_json(self) -> str:
        """`{"name", "input_shape", "ops": [keys]}`, which `from_json` reads back."""
        data = {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "ops": [op.key for op in self.ops],
        }
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "network") -> Self:
        """Read what `to_json` wrote; `SpecError` names `where` and what is missing."""
        try:
            data = json.loads(text)
            height, width, channels = data["input_shape"]
            ops = tuple(OpSpec.parse(key) for key in data["ops"])
            return cls(str(data["name"]), (height, width, channels), ops)
        except SpecError as error:
            raise SpecError(f"{where}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SpecError(
                f"{where}: not a network in JSON (name, input_shape, ops): {error!r}"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a network file; `SpecError` where it is absent or not a network."""
        return cls.from_json(read_text(path, _MAX_BYTES, SpecError), str(path))


def peak_bytes(op: OpSpec) -> int:
    """Peak bytes of float32 activations while the operator's layers run one after the other, input
    and output included. In a chain of operators nothing else is alive: a network's peak is the
    largest of its operators' (cf. Liberis & Lane, Neural networks on microcontrollers, 2019)."""
    steps = {layer.name: step for step, layer in enumerate(op.layers)}
    last_reader = {name: step for step, layer in enumerate(op.layers) for name in layer.inputs}
    last_reader[op.layers[-1].name] = len(op.layers)
    sizes = {name: prod(layer.in_shape) for layer in op.layers for name in layer.inputs}
    sizes |= {layer.name: prod(layer.out_shape) for layer in op.layers}

    def alive(name: str, step: int) -> bool:
        return steps.get(name, -1) <= step <= last_reader.get(name, -1)

    peaks = (
        sum(size for name, size in sizes.items() if alive(name, step)) for step in steps.values()
    )
    return 4 * op.batch * max(peaks)
