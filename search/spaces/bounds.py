"""Bounds of a space's options: resolution, width, classes and batch."""

from collections.abc import Mapping
from typing import Any

from latency.errors import UsageError

MOST_RESOLUTION, MOST_CLASSES = 8192, 1_000_000
_MOST = {"resolution": MOST_RESOLUTION, "classes": MOST_CLASSES, "batch": 2**16}
_LARGEST_WIDTH = 100


def check_options(options: Mapping[str, Any]) -> None:
    """Raises `UsageError` for a number that is out of its bounds; None is not checked."""
    width = options.get("width")
    if width is not None and not 0 < width <= _LARGEST_WIDTH:
        raise UsageError(
            f"`width` {width:g}: must be a positive number such as 0.5, at most {_LARGEST_WIDTH}"
        )
    for name, most in _MOST.items():
        value = options.get(name)
        if value is not None and not 1 <= value <= most:
            raise UsageError(f"`{name}` {value}: must be a number from 1 to {most}")
