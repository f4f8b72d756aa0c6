"""Each kind of report in a real browser, narrow and wide, dark and light, and in print: all of its
data is drawn, and nothing is requested."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import CLIPPED, DATA, FITTED, Visit, browser, needs_chromium, visit
from saved_runs import LEAN, STEPS, save_front, save_run, save_table

from latency import LatencyTable, NetworkSpec, zoo
from search import report, spaces
from search.report.page import Page
from search.report.run.blocks import drawn
from search.report.table.held_out import leave_out

MINI = spaces.load("mini")
BLOCKS = 1 + len(MINI.blocks)
"""Blocks drawn of a network of `mini`: the fixed first one and the chosen ones."""
PUBLISHED = sum(len(drawn(zoo.load(name), name).blocks) for name in zoo.PUBLISHED)

Made = tuple[Page, Mapping[str, int]]
"""A page, and the number of points in each figure, over all traces."""

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def chromium():
    """One browser for all pages."""
    with browser() as started:
        yield started


def _search(folder: Path, table: Path) -> Made:
    run = save_run(folder / "run", table)
    ops = NetworkSpec.load(run / "network.json").ops
    return report.run_page(run), {
        "network": BLOCKS + PUBLISHED,
        "budget": 5,
        "curves": STEPS * (3 + 3 + 2 + 1),
        "probabilities": 10 * sum(MINI.counts),
        "tradeoff": 2 + 1,
        "operators": len(ops),
    }


def _lean_search(folder: Path, table: Path) -> Made:
    run = save_run(folder / "run", table, **LEAN, measured_ms=None)
    return report.run_page(run), {"network": BLOCKS + PUBLISHED, "budget": 4}


def _two_searches(folder: Path, table: Path) -> Made:
    page = report.runs_page(*(save_run(folder / name, table) for name in "ab"))
    curves = 2 * STEPS * (3 + 3 + 2 + 1)
    return page, {"network": 2 * BLOCKS, "budget": 2 * 4, "curves": curves}


def _front(folder: Path, table: Path) -> Made:
    page = report.run_page(save_front(folder / "front"))
    return page, {"tradeoff": 2, "front": 2 * BLOCKS}


def _table(folder: Path, path: Path) -> Made:
    table = LatencyTable.load(save_table(folder / "kernels.csv", path))
    counted = sum(op.macs > 0 for op in table)
    return report.table_page(table), {
        "latency": counted,
        "roofline": counted + 80,
        "stages": 8,
        "predicted": len(leave_out(table)) + 2,
        "spread": len(table),
    }


def _two_tables(folder: Path, path: Path) -> Made:
    table = LatencyTable.load(path)
    slow = {
        op: replace(row, median_ms=1.5 * row.median_ms) if op.kernel == 7 else row
        for op, row in table.rows.items()
    }
    return report.tables_page(table, replace(table, rows=slow)), {"ratios": len(table)}


KINDS = (_search, _lean_search, _two_searches, _front, _table, _two_tables)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.strip("_"))
def test_a_page_shows_all_of_its_data_and_requests_nothing(
    chromium: Any, tmp_path: Path, mini_csv: Path, kind: Callable[[Path, Path], Made]
):
    page, counts = kind(tmp_path, mini_csv)
    path = tmp_path / "page.html"
    report.write_page(page, path)
    with visit(chromium, path, 390, "dark") as seen:
        assert _page_colour(seen) == "rgb(20, 24, 28)"
        _assert_fits(seen, 390)
        assert {name: sum(data) for name, data in seen.page.evaluate(DATA).items()} == counts
        _assert_prints(seen)
        seen.page.emulate_media(media="screen", color_scheme="light")
        seen.page.set_viewport_size({"width": 1440, "height": 900})
        seen.page.wait_for_function(FITTED)
        assert _page_colour(seen) == "rgb(255, 255, 255)"
        _assert_fits(seen, 1440)
        assert seen.errors == []
        assert seen.requests == [path.as_uri()]


def _assert_fits(seen: Visit, width: int) -> None:
    """Neither the page nor the text of a figure sticks out."""
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(CLIPPED) == []


def _assert_prints(seen: Visit) -> None:
    """Print is dark on white even if the screen is dark."""
    seen.page.emulate_media(media="print")
    style = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    assert seen.page.evaluate(style) == "rgb(29, 35, 41)"
    seen.page.set_viewport_size({"width": 700, "height": 900})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 700


def _page_colour(seen: Visit) -> str:
    return str(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
