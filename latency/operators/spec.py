"""`OpSpec`: one candidate operator, described by everything that its latency depends on."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from latency.errors import SpecError, unknown_name
from latency.operators.kinds import ACTIVATIONS, KINDS, Kind, Layer, Shape

_SIZES = re.compile(r"([0-9]+)x([0-9]+)x([0-9]+)")
_TAGS = {
    "k": ("kernel", int),
    "s": ("stride", int),
    "e": ("expansion", float),
    "se": ("squeeze_excite", float),
    "g": ("groups", int),
    "d": ("dilation", int),
    "b": ("batch", int),
}
_SIZED = (
    *("height", "width", "in_channels", "out_channels", "kernel", "stride"),
    *("batch", "groups", "dilation"),
)
_TAG = re.compile(r"(se|[ksegdb])([0-9].*)")
_MOST = 1 << 34
"""No size is larger, and no ratio: what is computed of it stays a number that can be shown."""


@dataclass(frozen=True)
class OpSpec:
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

    kind: str
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    expansion: float = 1
    activation: str = "none"
    squeeze_excite: float = 0
    batch: int = 1
    groups: int = 1
    dilation: int = 1
    tree: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SpecError(str(unknown_name("operator kind", self.kind, KINDS)))
        if self.activation not in ACTIVATIONS:
            raise SpecError(str(unknown_name("activation", self.activation, ACTIVATIONS)))
        for name in _SIZED:
            size = getattr(self, name)
            if size < 1:
                raise SpecError(f"{name} of a {self.kind} is {size}; at least 1")
            if size > _MOST:
                raise SpecError(f"{name} of a {self.kind} is above {_MOST}, which no tensor has")
        if not (0 < self.expansion <= _MOST and 0 <= self.squeeze_excite <= 1):
            raise SpecError(
                f"expansion {self.expansion} must be positive, {_MOST} at most, and "
                f"squeeze_excite {self.squeeze_excite} within 0 and 1"
            )
        self.traits.check(self)

    @property
    def key(self) -> str:
        """Canonical string; `OpSpec.parse` reads it back to an equal operator."""
        parts = [
            self.kind,
            f"{self.height}x{self.width}x{self.in_channels}",
            f"{self.out_channels}",
            f"k{self.kernel}",
            f"s{self.stride}",
        ]
        if self.expansion != 1:
            parts.append(f"e{_plain(self.expansion)}")
        if self.activation != "none":
            parts.append(self.activation)
        if self.squeeze_excite:
            parts.append(f"se{_plain(self.squeeze_excite)}")
        if self.groups != 1:
            parts.append(f"g{self.groups}")
        if self.dilation != 1:
            parts.append(f"d{self.dilation}")
        if self.batch != 1:
            parts.append(f"b{self.batch}")
        if self.tree:
            parts.append(self.tree)
        return "-".join(parts)

    @classmethod
    def parse(cls, key: str) -> Self:
        """The operator of a key exactly as `key` writes it; `SpecError` for anything else."""
        kind, *rest = key.split("-")
        sizes = _SIZES.fullmatch(rest[0]) if rest else None
        if sizes is None or len(rest) < 2 or not rest[1].isdecimal():
            raise SpecError(
                f"'{key[:100]}' is no operator key (e.g. conv-224x224x3-32-k3-s2-relu6)"
            )
        fields: dict = {}
        for part in rest[2:]:
            if part.startswith("("):
                fields["tree"] = part
                continue
            tag = _TAG.fullmatch(part)
            name, read = _TAGS[tag[1]] if tag else ("activation", str)
            fields[name] = _read(read, tag[2] if tag else part, key)
        height, width, channels, outside = (
            _read(int, size, key) for size in (*sizes.groups(), rest[1])
        )
        op = cls(kind, height, width, channels, outside, **fields)
        if op.key != key:
            raise SpecError(f"'{key[:100]}' is no operator key: it would be written {op.key}")
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
    def parts(self) -> tuple["OpSpec", ...]:
        """The operators whose latencies add up to this one's: itself, but for a `tree` the one
        whose edges are all identities, and its edges."""
        return self.traits.parts(self)

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


def _read(kind: Callable[[str], Any], text: str, key: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise SpecError(f"'{key[:100]}' is no operator key: '{text[:100]}' is no number") from None


def _plain(number: float) -> str:
    """The shortest decimal that reads back to the same number, without a trailing '.0'."""
    return repr(float(number)).removesuffix(".0")
