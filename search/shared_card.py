"""The part of a device card that a shared result may contain."""

import json
import tomllib
from collections.abc import Mapping
from typing import Any

_SHARED = (
    *("transport", "runtime", "provider", "threads", "batch", "precision", "graph_optimization"),
    *("channels_last", "cuda_graph", "affinity"),
)
"""Keys that say how a device is measured, not how it is reached."""


def shared_part(card: str) -> str:
    """How a card measures, as TOML: without its description, its comments and the sections on
    reaching the device. Empty for a text that is not TOML."""
    try:
        content = tomllib.loads(card)
    except tomllib.TOMLDecodeError:
        return ""
    text = _lines({key: content[key] for key in _SHARED if key in content})
    measuring = content.get("measuring")
    return f"{text}[measuring]\n{_lines(measuring)}" if isinstance(measuring, dict) else text


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, default=str)}\n" for key, value in values.items())
