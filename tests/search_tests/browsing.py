"""A real browser for tests: headless Chromium that records requests and errors of a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)

CLIPPED = """() => {
  const out = [];
  for (const svg of document.querySelectorAll(".chart .main-svg")) {
    const frame = svg.closest(".chart").getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (!box.width || !text.textContent.trim()) continue;
      if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
          box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        out.push(`${svg.closest("figure").id}: ${text.textContent}`);
    }
  }
  return out;
}"""
"""Texts of figures that are outside of them."""

DATA = """() => Object.fromEntries([...document.querySelectorAll(".chart")].map((place) => [
  place.dataset.figure,
  place._fullData.filter((trace) => trace.visible === true).map((trace) =>
    (trace.type === "heatmap" ? trace.z : trace.x).length),
]))"""
"""The number of points of each trace of each figure, as plotly read them."""

FITTED = """() => [...document.querySelectorAll(".chart")].every((place) =>
  Math.abs(place.querySelector(".main-svg").clientWidth - place.clientWidth) < 2)"""
"""Whether each figure is as wide as its element."""


@dataclass
class Visit:
    """A page in the browser, its requests and its errors."""

    page: Any
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, for any number of visits."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield started
        started.close()


@contextmanager
def visit(started: Any, path: Path, width: int, scheme: str = "light") -> Iterator[Visit]:
    """Open a report in a browser and wait until all of its figures are drawn."""
    size = {"width": width, "height": 900}
    context = started.new_context(viewport=size, color_scheme=scheme)
    seen = Visit(context.new_page())
    seen.page.on("request", lambda request: seen.requests.append(request.url))
    seen.page.on("console", lambda message: seen.errors.append(f"{message.type}: {message.text}"))
    seen.page.on("pageerror", lambda error: seen.errors.append(str(error)))
    seen.page.goto(path.as_uri())
    seen.page.wait_for_selector("html[data-drawn]", state="attached", timeout=120_000)
    yield seen
    context.close()
