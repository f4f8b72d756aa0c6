"""What of a device card a result and its report hold: both get shared."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

_MEASURED_BY = (
    *("transport", "runtime", "provider", "threads", "batch", "precision", "graph_optimization"),
    *("channels_last", "cuda_graph", "affinity", "measuring"),
)
"""Of a device card, what tells how it was measured, and not how its machine is reached."""
_OF_CARDS = {"transport", "runtime", "ssh", "adb", "replay", "measuring"}
"""Keys that tell a card from a space."""


def shared_part(card: str) -> str:
    """What the text of a device card says of how was measured, as TOML; nothing of a text that is
    none. Left out are the sections of how the device is reached, the description and comments."""
    said = _read(card)
    kept = {key: said[key] for key in _MEASURED_BY if key in said}
    measuring = kept.pop("measuring", None)
    text = _lines(kept)
    return f"{text}[measuring]\n{_lines(measuring)}" if isinstance(measuring, dict) else text


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in values.items())


def is_card(text: str) -> bool:
    """Whether a file's text is that of a device card, and not of a space."""
    return bool(_OF_CARDS & _read(text).keys())


def _read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
