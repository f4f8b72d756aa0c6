"""The report of a front: networks from fastest to slowest, out of one supernet."""

import json
from pathlib import Path
from typing import Any

from latency.errors import SpecError
from latency.network import NetworkSpec
from latency.units import format_ms
from search.report.blocks import Drawing, drawn
from search.report.page import Grid, Page, Section
from search.report.rivals import rival_parts, took

FRONT = "pareto.json"


def front_page(folder: Path) -> Page:
    """The report of the front in a folder; `SpecError` where its files are broken."""
    path = folder / FRONT
    try:
        front = json.loads(path.read_text(encoding="utf-8"))
        networks = sorted(front["networks"], key=took)
        drawings = [_drawn(folder, one) for one in networks]
        summary = [("networks", str(len(networks)))]
        summary += [(name, format_ms(took(networks[i]))) for name, i in (("from", 0), ("to", -1))]
        facts = [
            (name, str(front[name])) for name in ("target", "space", "data", "seed", "version")
        ]
        title = f"{front['space']} on {front['target']}"
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise SpecError(f"{path}: not a front of lat-search: {error!r}") from None
    sections = (
        Section("Networks", list(rival_parts({"pareto": networks}, drawings))),
        Section("To repeat it", [Grid(facts)]),
    )
    return Page(title, "lat-search, networks from fastest to slowest", summary, sections)


def _drawn(folder: Path, network: dict[str, Any]) -> Drawing:
    spec = NetworkSpec.load(folder / network["network"])
    return drawn(spec, format_ms(took(network)))
