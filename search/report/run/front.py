"""The report of a front, networks from fastest to slowest out of one supernet, and of two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from latency.errors import SpecError
from latency.operators.network import NetworkSpec
from latency.units import format_ms
from search.report.files import FrontFile, read_back
from search.report.page import Grid, Page, Picture, Section
from search.report.run.blocks import Drawing, blocks_figure, drawn
from search.report.run.rivals import fronts_figure, rival_parts, rival_rows, took
from search.run_files import FRONT


@dataclass(frozen=True)
class SavedFront:
    """`told` is pareto.json as it stands; `networks`, at least one, are from the fastest on, and
    `drawings` are theirs."""

    folder: Path
    told: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]]
    drawings: Sequence[Drawing]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the front in a folder; `SpecError` where its files are broken or it has no
        networks."""
        path = folder / FRONT
        told = read_back(path, FrontFile, "a front")
        networks = sorted(told["networks"], key=took)
        if not networks:
            raise SpecError(
                f"{path}: the front has no networks; search for some: lat-search --pareto 8 ... "
                f"--out {folder} --overwrite"
            )
        return cls(folder, told, networks, [_drawn(folder, one) for one in networks])

    @property
    def title(self) -> str:
        return f"{self.told['space']} on {self.told['target']}"

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What it takes to repeat it."""
        names = ("target", "space", "data", "seed", "version")
        return [(name, str(self.told[name])) for name in names]

    @property
    def summary(self) -> list[tuple[str, str]]:
        """The front in a glance."""
        ends = [("from", self.networks[0]), ("to", self.networks[-1])]
        told = [(name, format_ms(took(one))) for name, one in ends]
        return [("networks", str(len(self.networks))), *told]


def front_page(front: SavedFront) -> Page:
    """The report of a front."""
    sections = (
        Section("Networks", list(rival_parts({"pareto": front.networks}, front.drawings))),
        Section("To repeat it", [Grid(front.facts)]),
    )
    subtitle = "lat-search, networks from fastest to slowest"
    return Page(front.title, subtitle, front.summary, sections)


def fronts_page(a: SavedFront, b: SavedFront) -> Page:
    """Two fronts side by side."""
    fronts = {"A": a, "B": b}
    networks = {name: front.networks for name, front in fronts.items()}
    pictures = [
        Picture(
            f"front-{name.lower()}",
            f"The networks of {name}, {front.title}, from the fastest to the slowest.",
            blocks_figure(front.drawings),
        )
        for name, front in fronts.items()
    ]
    caption = (
        "Accuracy on the validation split, with the supernet's weights, against latency: measured "
        "where it was, else predicted."
    )
    facts = [
        (name, one, other)
        for (name, one), (_, other) in zip(
            [*a.summary, *a.facts], [*b.summary, *b.facts], strict=True
        )
    ]
    sections = (
        Section("Networks", [Picture("tradeoff", caption, fronts_figure(networks)), *pictures]),
        Section("Side by side", [Grid(facts, ("", "A", "B")), rival_rows(networks)]),
    )
    return Page("Two fronts", f"A: {a.folder}; B: {b.folder}", [], sections)


def _drawn(folder: Path, network: Mapping[str, Any]) -> Drawing:
    spec = NetworkSpec.load(folder / network["network"])
    return drawn(spec, format_ms(took(network)))
