"""`OpFields`: the fields of an operator, and its key."""

from dataclasses import dataclass

_OPTIONAL = {
    "expansion": "e",
    "activation": "",
    "squeeze_excite": "se",
    "groups": "g",
    "dilation": "d",
    "batch": "b",
    "tree": "",
}
"""Fields that a key leaves out at their default, and the letters before their value."""


@dataclass(frozen=True)
class OpFields:
    """The fields of `latency.operators.spec.OpSpec`, which explains and checks them."""

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

    @property
    def key(self) -> str:
        """Canonical string; `OpSpec.parse` reads it back to an equal operator."""
        shape = f"{self.height}x{self.width}x{self.in_channels}-{self.out_channels}"
        parts = [self.kind, shape, f"k{self.kernel}", f"s{self.stride}"]
        for name, letters in _OPTIONAL.items():
            value = getattr(self, name)
            if value != getattr(OpFields, name):
                parts.append(f"{letters}{value}".removesuffix(".0"))
        return "-".join(parts)
