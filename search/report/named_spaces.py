"""`space_of`: the shipped space that a table or a result names, such as "proxyless-w0.5@192"."""

import re
from typing import Any

from latency.errors import LatError
from search import spaces
from search.space import SearchSpace

_TAG = re.compile(r"(.+?)(?:-w([\d.]{1,9}))?@(\d{1,6})", re.ASCII)


def space_of(tag: str, batch: int = 1) -> SearchSpace | None:
    """The shipped space with a tag, with any number of classes; None if there is none."""
    parts = _TAG.fullmatch(tag)
    if parts is None or parts[1] not in spaces.known():
        return None
    try:
        width: dict[str, Any] = {"width": float(parts[2])} if parts[2] else {}
        space = spaces.shipped(parts[1], resolution=int(parts[3]), batch=batch, **width)
        return space if space.tag == tag else None
    except (LatError, TypeError, ValueError):
        return None
