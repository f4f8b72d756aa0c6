"""`DeviceCard`: a TOML file that describes how a target is reached and run."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from devices.cards import known_cards
from latency.errors import unknown_name
from latency.toml_file import Section, read_toml

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
"""The precisions of each runtime and provider."""


_UserPath = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
_Label = Annotated[str, Field(min_length=1, max_length=120)]
"""A device's name in messages and in file names, which are limited to 255 characters."""

_DAY = 86_400.0
_MOST_DEVICES = 64
_MOST_SAMPLES = 1_000_000
_ENDS = (
    ("sessions", "max_sessions"),
    ("min_samples", "max_samples"),
    ("min_samples", "max_network_samples"),
)
"""Keys of [measuring] that are a minimum and a maximum; one that is given alone holds."""


class _Section(Section):
    model_config = ConfigDict(strict=False, allow_inf_nan=False, validate_default=True)


class Measuring(_Section):
    """How long to measure: section `[measuring]` of a card.

    A sample is a few back-to-back runs; a round is one sample of every workload; a session is a
    fresh process on the device.
    """

    ci95: float = Field(0.01, gt=0, lt=1, description="requested 95 % half interval, relative")
    network_ci95: float = Field(0.02, gt=0, lt=1, description="the same for whole networks")
    sessions: int = Field(3, ge=1, le=1000, description="minimum of fresh processes")
    max_sessions: int = Field(8, ge=1, le=1000)
    pause_seconds: float = Field(0.0, ge=0, le=_DAY, description="idle time between sessions")
    min_samples: int = Field(12, ge=6, le=_MOST_SAMPLES)
    max_samples: int = Field(100, ge=6, le=_MOST_SAMPLES)
    max_network_samples: int = Field(
        24, ge=6, le=_MOST_SAMPLES, description="networks take long; many are measured"
    )
    sample_ms: float = Field(1.0, gt=0, le=60_000)
    seconds: float = Field(
        120.0, gt=0, le=30 * _DAY, description="cap on samples beyond min_samples"
    )
    drift: float = Field(0.02, gt=0, description="a round that drifted by more is repeated")
    cool_below_c: float | None = Field(None, gt=0, le=150, description="wait until it is no warmer")
    cool_seconds: float = Field(120.0, ge=0, le=_DAY, description="cap on each wait")

    @model_validator(mode="after")
    def _least_is_no_more_than_most(self) -> Self:
        for least, most in _ENDS:
            minimum, maximum = getattr(self, least), getattr(self, most)
            if least in self.model_fields_set and minimum > maximum:
                if most in self.model_fields_set:
                    raise ValueError(f"{least} is {minimum}, more than {most}, {maximum}")
                object.__setattr__(self, most, minimum)  # the default follows
        return self


class Ssh(_Section):
    """How to reach a host: section `[ssh]`. Missing keys come from the user's ssh configuration,
    where `host` may be an alias."""

    host: str = Field("", max_length=120)
    hosts: tuple[_Label, ...] = Field(
        (), max_length=_MOST_DEVICES, description="several alike, which share the work"
    )
    port: int | None = Field(None, ge=1, le=65535)
    user: str | None = None
    key: _UserPath | None = Field(None, description="private key file")
    jump: str | None = Field(None, description="[user@]host[:port] to go through")
    config: _UserPath = Path("~/.ssh/config")
    known_hosts: _UserPath = Path("~/.ssh/known_hosts")
    python: str = Field("python3", min_length=1, description="on the host")
    folder: str = Field(".cache/lat-search", min_length=1, description="on the host, for files")
    connect_seconds: float = Field(10.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _names_a_host(self) -> Self:
        if not self.all_hosts:
            raise ValueError("it needs a `host`, or several `hosts`")
        return self

    @property
    def all_hosts(self) -> tuple[str, ...]:
        """`host` and `hosts`, without duplicates."""
        return tuple(dict.fromkeys([host for host in (self.host, *self.hosts) if host]))


class Adb(_Section):
    """How to reach a phone: section `[adb]`."""

    serials: (
        Annotated[tuple[_Label, ...], Field(min_length=1, max_length=_MOST_DEVICES)]
        | Literal["all"]
        | None
    ) = Field(None, description="devices to use; default: the one attached device")
    benchmark_model: _UserPath | None = Field(
        None, description="the binary, for the phone's processor"
    )
    folder: str = Field("/data/local/tmp/lat-search", pattern=r"^/[\w./-]+$")
    cpu_mask: str | None = Field(
        None, pattern=r"^[0-9a-fA-F]{1,64}$", description="of the big cores"
    )
    server: str | None = Field(
        None,
        pattern=r"^[\w.-]+:\d{1,5}$",
        description="the adb server; default: 127.0.0.1:5037, or ANDROID_ADB_SERVER_PORT",
    )


class Replay(_Section):
    """A device that replays a table: section `[replay]`."""

    table: str = Field(description="a table's name or path")
    devices: int = Field(1, ge=1, le=_MOST_DEVICES)
    pace: float = Field(
        0.0, ge=0, le=1000, description="1: waits as long as the device ran; 0: does not wait"
    )


class DeviceCard(_Section):
    """A target. `name`: the stem of its file. `argument`: what loads it again, quoted for a
    shell."""

    name: str
    argument: str = ""
    description: str = ""
    transport: Literal["local", "ssh", "adb", "replay"] = "local"
    runtime: Literal["onnxruntime", "litert", "torch", "benchmark_model"] = "onnxruntime"
    provider: Literal["cpu", "cuda", "tensorrt"] = "cpu"
    threads: int = Field(1, ge=1, le=4096)
    batch: int = Field(1, ge=1, le=65_536)
    precision: Precision = "float32"
    graph_optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    channels_last: bool = Field(True, description="of the runtime torch")
    cuda_graph: bool = Field(True, description="of the runtime torch on CUDA: replay a graph")
    affinity: tuple[Annotated[int, Field(ge=0, le=65_535)], ...] | None = Field(
        None, max_length=4096, description="CPUs to run on; default: the last `threads` free ones"
    )
    measuring: Measuring = Measuring()
    ssh: Ssh | None = None
    adb: Adb = Adb()
    replay: Replay | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        able = ABILITIES[self.runtime]
        if self.precision not in able.get(self.provider, ()):
            known = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in able.items())
            raise ValueError(
                f"precision: {self.runtime} does not compute in {self.precision} on "
                f"{self.provider}; it has {known}"
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
    """The card of this name, or of the TOML file at this path. Raises `UsageError` for an unknown
    name, listing the known ones, and for a broken file, naming the file, the key and its limits."""
    path = Path(name) if name.endswith(".toml") else known_cards().get(name)
    if path is None:
        raise unknown_name("device card", name, known_cards())
    return read_toml(path, DeviceCard, name=path.stem, argument=shlex.quote(name))
