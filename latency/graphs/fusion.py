"""The fusion rules of a runtime: which steps of a graph it executes as one kernel, and in which
layout. They are measured (`devices.kernel_suite.fusion`) and are in the header of a
device's table."""

from dataclasses import dataclass
from typing import Self

from latency.errors import SpecError

SUITE, FUSION = "kernels", "fusion"
"""Name of the kernel suite in a table's header, and the header's key of the fusion rules."""


@dataclass(frozen=True)
class Fusion:
    """The rules of a runtime.

    `pairs`: "conv+relu" says that a ReLU is fused into the convolution before it. `blocked`: kinds
    that work in the runtime's own layout of blocks of `block` channels; `either`: kinds that accept
    either layout. All others work on plain tensors.
    """

    pairs: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    either: frozenset[str] = frozenset()
    block: int = 1

    def __str__(self) -> str:
        parts = {"pairs": self.pairs, "blocked": self.blocked, "either": self.either}
        texts = [f"{name}={','.join(sorted(kinds))}" for name, kinds in parts.items() if kinds]
        return " ".join([*texts, f"block={self.block}"])

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rules that `str` wrote; `SpecError` for anything else."""
        try:
            found = dict(part.split("=") for part in text.split())
            block = int(found.pop("block", "1"))
            kinds = {name: frozenset(listed.split(",")) - {""} for name, listed in found.items()}
            rules = cls(**kinds, block=block)
        except (ValueError, TypeError):
            rules = None
        if rules is None or str(rules) != text or rules.block < 1:
            raise SpecError(f"'{text[:200]}' is not a list of fusion rules")
        return rules


USUAL = Fusion(
    frozenset(f"{kind}+{name}" for kind in ("conv", "linear") for name in ("norm", "relu", "relu6"))
)
"""Fused by every runtime."""
