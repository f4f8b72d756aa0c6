"""`Setting`: the device setting that a table holds for."""

from dataclasses import dataclass, fields
from typing import Self

from latency.names import slug


@dataclass(frozen=True)
class Setting:
    """The device setting of a table.

    `options`: of the runtime, as the card sets them (how models are launched, delegates, layouts).
    `build`: which build of the runtime, if known: two builds of one version can differ by half in
    speed.
    """

    device: str
    hardware: str
    system: str = ""
    runtime: str = ""
    threads: int = 1
    precision: str = "float32"
    batch: int = 1
    transport: str = "local"
    options: str = ""
    build: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        """All that changes a latency; tables of equal identity may merge. The operating system is
        recorded, not compared."""
        return tuple(getattr(self, f.name) for f in fields(self) if f.name != "system")

    def differences(self, other: Self) -> dict[str, tuple[object, object]]:
        """Names of the fields that differ, with both values."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return {name: (ours, theirs) for name, (ours, theirs) in pairs.items() if ours != theirs}

    @property
    def stem(self) -> str:
        """A table's file name: hardware and runtime, and any unusual threads, precision or batch.

        >>> Setting("gpu", "NVIDIA H200", runtime="torch 2.11.0", precision="float16", batch=8).stem
        'nvidia-h200-torch-2.11.0-float16-batch-8'
        """
        parts = [self.hardware, self.runtime]
        parts += [f"{self.threads} threads"] if self.threads != 1 else []
        parts += [self.precision] if self.precision != "float32" else []
        parts += [f"batch {self.batch}"] if self.batch != 1 else []
        return slug(" ".join(parts))
