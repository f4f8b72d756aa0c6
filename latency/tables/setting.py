"""`Setting`: the device setting that a table holds for."""

from dataclasses import dataclass, fields

from latency.names import slug


@dataclass(frozen=True)
class Setting:
    """The device setting that a table's numbers hold for. Tables of equal `identity` may merge."""

    device: str
    hardware: str
    system: str = ""
    runtime: str = ""
    threads: int = 1
    precision: str = "float32"
    batch: int = 1
    transport: str = "local"
    options: str = ""
    """Of the runtime, as the card sets them: how models are launched, delegates, layouts."""
    build: str = ""
    """Which build of the runtime it is, where it says: two builds of one version can differ by
    half in speed."""

    @property
    def identity(self) -> tuple[object, ...]:
        """All that changes a latency. The operating system's build is recorded, not compared."""
        return tuple(getattr(self, f.name) for f in fields(self) if f.name != "system")

    @property
    def stem(self) -> str:
        """A table's file name: hardware and runtime, and any unusual threads, precision or batch.

        >>> Setting("gpu", "NVIDIA H200", runtime="torch 2.11.0", precision="float16", batch=8).stem
        'nvidia-h200-torch-2.11.0-float16-batch-8'
        """
        usual = (self.threads == 1, self.precision == "float32", self.batch == 1)
        named = (f"{self.threads} threads", self.precision, f"batch {self.batch}")
        unusual = [name for name, is_usual in zip(named, usual, strict=True) if not is_usual]
        return slug(" ".join([self.hardware, self.runtime, *unusual]))
