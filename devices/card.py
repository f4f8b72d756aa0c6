"""`DeviceCard`: a TOML file that says how a target is reached and run."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latency.errors import UsageError, unknown_name


class Measuring(BaseModel):
    """How long to measure: section `[measuring]` of a card.

    A burst is a few back-to-back runs; a sitting is a fresh process on the device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ci95: float = Field(0.01, gt=0, lt=1, description="asked half interval of the median, relative")
    network_ci95: float = Field(0.02, gt=0, lt=1, description="the same for whole networks")
    sittings: int = Field(2, ge=1)
    pause_seconds: float = Field(0.0, ge=0, description="idle time between sittings")
    min_bursts: int = Field(10, ge=6)
    max_bursts: int = Field(100, ge=6)
    burst_ms: float = Field(1.0, gt=0)
    seconds: float = Field(300.0, gt=0, description="cap on the whole measurement")


class DeviceCard(BaseModel):
    """A target. `name` is the stem of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str = ""
    transport: Literal["local"] = "local"
    runtime: Literal["onnxruntime"] = "onnxruntime"
    threads: int = Field(1, ge=1)
    batch: int = Field(1, ge=1)
    precision: Literal["float32"] = "float32"
    graph_optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    affinity: tuple[int, ...] | None = Field(
        None, description="CPUs to run on; the last `threads` ones that are free where not given"
    )
    measuring: Measuring = Measuring()


def known_cards() -> dict[str, Path]:
    """Name to file of the shipped cards."""
    folder = Path(str(files("devices"))) / "cards"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


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
        raise UsageError(f"{path}: {key}: {first['msg'].lower()}") from None
