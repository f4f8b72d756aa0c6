"""`DeviceCard`: a TOML file that says how a target is reached and run."""

import tomllib
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from devices.card_names import known_cards
from latency.errors import UsageError, unknown_name

Precision = Literal["float32", "tf32", "float16", "bfloat16", "int8"]

ABILITIES: dict[str, dict[str, tuple[str, ...]]] = {
    "onnxruntime": {
        "cpu": ("float32",),
        "cuda": ("float32", "float16"),
        "tensorrt": ("float32", "float16"),
    },
    "litert": {"cpu": ("float32", "int8")},
    "torch": {
        "cpu": ("float32", "bfloat16"),
        "cuda": ("float32", "tf32", "float16", "bfloat16"),
    },
    "benchmark_model": {"cpu": ("float32", "int8")},
}
"""Runtime to provider to the precisions that it computes in."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measuring(_Section):
    """How long to measure: section `[measuring]` of a card.

    A burst is a few back-to-back runs; a round is a burst of every workload; a sitting is a
    fresh process on the device.
    """

    ci95: float = Field(0.01, gt=0, lt=1, description="asked half interval of the median, relative")
    network_ci95: float = Field(0.02, gt=0, lt=1, description="the same for whole networks")
    sittings: int = Field(3, ge=1, description="fresh processes at least")
    max_sittings: int = Field(8, ge=1)
    pause_seconds: float = Field(0.0, ge=0, description="idle time between sittings")
    min_bursts: int = Field(12, ge=6)
    max_bursts: int = Field(100, ge=6)
    max_network_bursts: int = Field(24, ge=6, description="networks take long; many are measured")
    burst_ms: float = Field(1.0, gt=0)
    seconds: float = Field(120.0, gt=0, description="cap on what goes beyond min_bursts")
    drift: float = Field(0.02, gt=0, description="a round that drifted by more is done again")
    cool_below_c: float | None = Field(None, gt=0, description="wait until it is no warmer")
    cool_seconds: float = Field(120.0, ge=0, description="but never longer than this at a time")


class Ssh(_Section):
    """How to reach a host: section `[ssh]`. What is not given is taken from the user's ssh
    configuration, which knows `host` as its alias."""

    host: str = Field(min_length=1)
    hosts: tuple[str, ...] = Field((), description="more of the same, to share the work")
    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = None
    key: Path | None = Field(None, description="private key file")
    jump: str | None = Field(None, description="[user@]host[:port] to go through")
    config: Path = Path("~/.ssh/config")
    known_hosts: Path = Path("~/.ssh/known_hosts")
    python: str = Field("python3", min_length=1, description="on the host")
    folder: str = Field(".cache/lat-search", min_length=1, description="on the host, for files")
    connect_seconds: float = Field(10.0, gt=0)


class Adb(_Section):
    """How to reach a phone: section `[adb]`."""

    serials: tuple[str, ...] | Literal["all"] | None = Field(
        None, description="devices to use; the one that is attached where not given"
    )
    benchmark_model: Path | None = Field(None, description="the binary, for the phone's processor")
    folder: str = Field("/data/local/tmp/lat-search", pattern=r"^/[\w./-]+$")
    cpu_mask: str | None = Field(None, pattern=r"^[0-9a-fA-F]+$", description="of the big cores")
    server: str | None = Field(
        None,
        pattern=r"^[\w.-]+:\d+$",
        description="the adb server; where not given, the one that the command adb talks to: "
        "127.0.0.1:5037, or as ANDROID_ADB_SERVER_PORT says",
    )


class Replay(_Section):
    """A device that answers from a table: section `[replay]`."""

    table: str = Field(description="a table's name or path")
    devices: int = Field(1, ge=1, le=64)
    pace: float = Field(0.0, ge=0, description="1: takes as long as the device did; 0: no time")


class DeviceCard(_Section):
    """A target. `name` is the stem of its file."""

    name: str
    description: str = ""
    transport: Literal["local", "ssh", "adb", "replay"] = "local"
    runtime: Literal["onnxruntime", "litert", "torch", "benchmark_model"] = "onnxruntime"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    precision: Precision = "float32"
    graph_optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    channels_last: bool = Field(True, description="of the runtime torch")
    cuda_graph: bool = Field(True, description="of the runtime torch on CUDA: replay a graph")
    affinity: tuple[int, ...] | None = Field(
        None, description="CPUs to run on; the last `threads` ones that are free where not given"
    )
    measuring: Measuring = Measuring()
    ssh: Ssh | None = None
    adb: Adb = Adb()
    replay: Replay | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        providers = ABILITIES[self.runtime]
        if self.provider not in providers:
            raise ValueError(
                f"provider: the runtime {self.runtime} has {', '.join(providers)}, "
                f"not {self.provider}"
            )
        if self.precision not in providers[self.provider]:
            raise ValueError(
                f"precision: {self.runtime} on {self.provider} computes in "
                f"{', '.join(providers[self.provider])}, not {self.precision}"
            )
        if (self.transport == "adb") != (self.runtime == "benchmark_model"):
            raise ValueError(
                "runtime: a phone over adb is measured by benchmark_model, and nothing else is"
            )
        for section in ("ssh", "replay"):
            if self.transport == section and getattr(self, section) is None:
                raise ValueError(f"{section}: the transport {section} needs a section [{section}]")
        return self


def load_card(name: str) -> DeviceCard:
    """The card of this name, or of the TOML file at this path.

    Raises `UsageError` for an unknown name (listing the known ones), and for a broken file
    (naming file, key and what is allowed).
    """
    path = Path(name) if name.endswith(".toml") else known_cards().get(name)
    if path is None:
        raise unknown_name("device card", name, known_cards())
    try:
        return DeviceCard(name=path.stem, **tomllib.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
        raise UsageError(f"{path}: not a device card in TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path}: {key + ': ' if key else ''}{said.lower()}") from None
