"""`OpSpec`: one candidate operator, described by everything that its latency depends on."""

import re
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

from latency.errors import SpecError, unknown_name
from latency.operators.fields import OpFields
from latency.operators.kinds import ACTIVATIONS, KINDS, Kind, Layer, Shape
from latency.operators.trees import tree_parts

_TYPES: dict[str, Any] = {f.name: f.type for f in fields(OpFields)}
_SIZES = [name for name, kind in _TYPES.items() if kind is int]
_KEY = re.compile(
    r"(?P<kind>[a-z_]+)-(?P<height>\d+)x(?P<width>\d+)x(?P<in_channels>\d+)-(?P<out_channels>\d+)"
    r"-k(?P<kernel>\d+)-s(?P<stride>\d+)(-e(?P<expansion>\d[\d.e+-]*))?"
    r"(-(?P<activation>[a-z][a-z_]+6?))?(-se(?P<squeeze_excite>\d[\d.e+-]*))?"
    r"(-g(?P<groups>\d+))?(-d(?P<dilation>\d+))?(-b(?P<batch>\d+))?(-(?P<tree>\(.*\)))?",
    re.ASCII,
)
_MOST = 1 << 34
"""The largest size and ratio: products of them stay finite."""


@dataclass(frozen=True)
class OpSpec(OpFields):
    """An operator on one input of `batch` x `height` x `width` x `in_channels`.

    Kinds: those of `latency.operators.kinds.KINDS`; each decomposes into layers, from which
    everything else (counts, torch module, exported graph) is read. `expansion` is the ratio of an
    inverted bottleneck's hidden channels to its input channels (rounded to a whole channel),
    `squeeze_excite` the ratio of the squeezed to the hidden channels, 0 for none. Convolutions
    (of `groups`, dilated by `dilation`) are padded by half of their kernel on each side, average
    poolings (`pool`) not at all. A `tree` is written as in `latency.operators.trees`; its
    `expansion` is the ratio of its hidden to its output channels.

    Raises `SpecError` where no such operator exists.

    >>> OpSpec("mbconv", 56, 56, 24, 24, kernel=5, expansion=6, activation="relu6").key
    'mbconv-56x56x24-24-k5-s1-e6-relu6'
    """

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(str(unknown_name("operator kind", self.kind, KINDS)))
        if self.activation not in ACTIVATIONS:
            raise SpecError(str(unknown_name("activation", self.activation, ACTIVATIONS)))
        for name in _SIZES:
            if not 1 <= getattr(self, name) <= _MOST:
                raise SpecError(f"{name} of a {self.kind} must be from 1 to {_MOST}")
        if not (0 < self.expansion <= _MOST and 0 <= self.squeeze_excite <= 1):
            raise SpecError(
                f"expansion {self.expansion} must be positive, {_MOST} at most, and "
                f"squeeze_excite {self.squeeze_excite} within 0 and 1"
            )
        self.traits.check(self)

    @classmethod
    def parse(cls, key: str) -> Self:
        """The operator of a key exactly as `key` writes it; `SpecError` for anything else."""
        found = _KEY.fullmatch(key)
        try:
            texts = found.groupdict().items() if found else ()
            op = cls(**{name: _TYPES[name](text) for name, text in texts if text is not None})
        except (ValueError, TypeError):
            op = None
        if op is None or op.key != key:
            hint = f"it would be written {op.key}" if op else "e.g. conv-224x224x3-32-k3-s2-relu6"
            raise SpecError(f"'{key[:100]}' is not an operator key ({hint})")
        return op

    def __str__(self) -> str:
        return self.key

    @property
    def traits(self) -> Kind:
        """The record of the operator's kind."""
        return KINDS[self.kind]

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The primitive layers that the operator consists of, in order of execution."""
        return self.traits.decompose(self)

    @cached_property
    def parts(self) -> tuple[Self, ...]:
        """The operators whose latencies add up to this one's: itself, but for a `tree` the one
        whose edges are all identities, and its edges."""
        return tree_parts(self) if self.tree else (self,)

    @property
    def out_shape(self) -> Shape:
        """(height, width, channels) of the output."""
        return self.layers[-1].out_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers, for the whole batch."""
        return self.batch * sum(layer.macs for layer in self.layers)

    @property
    def params(self) -> int:
        """Learnable parameters (batch norm: scale and shift), as the torch module counts them."""
        return sum(layer.params for layer in self.layers)

    @property
    def bytes(self) -> int:
        """Bytes that the layers read and write in float32: activations and weights."""
        activations = self.batch * sum(layer.activations for layer in self.layers)
        return 4 * (activations + self.params)

    @property
    def border_bytes(self) -> int:
        """Bytes of the operator's input and output in float32."""
        height, width, channels = self.out_shape
        inside = self.height * self.width * self.in_channels
        return 4 * self.batch * (inside + height * width * channels)
