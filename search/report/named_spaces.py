"""From a space's name in a table or a result, such as "proxyless-w0.5@192", to the space."""

import re
from typing import Any

from latency.errors import LatError
from search import spaces
from search.space import SearchSpace

_TAG = re.compile(r"(.+?)(?:-w([\d.]{1,9}))?@(\d{1,6})", re.ASCII)


def space_of(tag: str, batch: int = 1) -> SearchSpace | None:
    """The space, but for the number of its classes; None where the name is not one of ours."""
    parts = _TAG.fullmatch(tag)
    if parts is None or parts[1] not in spaces.known():
        return None
    try:
        options: dict[str, Any] = {"resolution": int(parts[3]), "batch": batch}
        if parts[2]:
            options["width"] = float(parts[2])
        space = spaces.shipped(parts[1], **options)
        return space if space.tag == tag else None
    except (LatError, TypeError, ValueError):
        return None
