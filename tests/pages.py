"""Pages of the documentation, typed as a reader would: `Reader` goes through a page's code blocks.

    ```toml       a file, whose name is in its first line: # pi.toml
    ```python     code that goes on where the block before ended, or a file, likewise
    ```sh         commands, each on a line, or on more where a line ends in a backslash
    ```text       what something prints: for the eyes

Commands of this project run in this process as they are written. What would take long is cut
short: a search makes a few steps, and one of a large space tells its range. Commands of others are
what the test says they are; one that it does not know is an error.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from importlib import import_module
from io import StringIO
from pathlib import Path

from latency import LatencyTable, Measurement, OpSpec
from latency.graphs.fusion import SUITE
from latency.tables.library import shipped_folder, user_folder
from search import spaces
from search.jobs.inspection import PROBE

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FEW_STEPS = ["--steps", "4", "--train-steps", "2", "--baselines", "0"]
SLOW = {"lat-profile": ("--suite",)}
"""Words of what takes a minute, and has tests of its own: the suite of kernels."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""One of them draws the pictures of `lat-report --png`."""
QUICK = "[measuring]\nsessions = 2\nmax_sessions = 2\nmin_samples = 6\nmax_samples = 8\n"
"""The section of a card that is content with few samples."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w-]+\.(?:toml|py))\n")

Program = Callable[[list[str]], None]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each code block."""
    return ((match[1], match[2]) for match in _BLOCK.finditer(page.read_text()))


class Reader:
    """Reads a page in the folder that is current, and does what it says.

    `programs`: what commands of others do. `said` has what each command printed. `edit` is given
    each file that the page has its reader write, and returns what is written. `is_measured`: times
    are those of this machine, and of no table.
    """

    def __init__(
        self,
        programs: Mapping[str, Program] | None = None,
        edit: Callable[[str], str] = lambda text: text,
        is_measured: bool = False,
    ) -> None:
        self.said: dict[str, str] = {}
        self._programs = {"pip": installs, "make": self._make, **(programs or {})}
        self._edit, self._is_measured = edit, is_measured
        self._names: dict[str, object] = {"__name__": "page"}

    def read(self, page: Path) -> None:
        """Go through the page; `AssertionError` that names what failed."""
        for language, text in blocks(page):
            if named := FILE.match(text):
                Path(named[1]).write_text(self._edit(text))
            elif language == "python":
                exec(compile(text, str(page), "exec"), self._names)
            elif language == "sh":
                for line in text.replace("\\\n", "").splitlines():
                    self.type(line)

    def type(self, line: str) -> None:
        """Run a command line; `AssertionError` where it fails, with what it said. A search on a
        device that is really measured may end over its budget: it may be slower by then."""
        words = shlex.split(line, comments=True)
        if not words:
            return
        if words[0] in PROJECT["scripts"]:
            self.said[line] = self._run(words)
        elif words[0] in self._programs:
            self._programs[words[0]](words)
        else:
            raise AssertionError(f"nobody knows what {words[0]} does in a test: {line}")

    def _run(self, words: list[str]) -> str:
        if any(slow in words for slow in SLOW.get(words[0], ())):
            return ""
        if "--png" in words and not any(map(shutil.which, BROWSERS)):
            return ""
        if words[0] == "lat-search":
            words = _cut_short(words)
        module, function = PROJECT["scripts"][words[0]].split(":")
        before, sys.argv = sys.argv, words
        code: object = 0
        try:
            with redirect_stdout(StringIO()) as written:
                getattr(import_module(module), function)()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = before
        said = written.getvalue()
        over = self._is_measured and code == 1 and "measured / budget" in said
        assert not code or over, f"{shlex.join(words)} ends with {code}:\n{said}"
        return said

    def _make(self, words: list[str]) -> None:
        """Run what the Makefile says, if it is commands of ours; else it is enough that the
        target is there."""
        recipe = subprocess.run(
            ["make", "-n", "-C", ROOT, "READY=", "BIN=.", *words[1:]],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for line in recipe.splitlines():
            if line.startswith("./lat-"):
                self.type(line.removeprefix("./"))


def _cut_short(words: list[str]) -> list[str]:
    """The same search, over in seconds: a large space is loaded and its range printed."""
    if "--range" in words:
        return words
    if "--retrain" in words:
        return [*words, *FEW_STEPS[2:4]]
    space = words[words.index("--space") + 1] if "--space" in words else "proxyless"
    if not space.startswith("proxyless"):
        return [*words, *FEW_STEPS]
    if "--settings" in words:
        place = words.index("--settings")
        words = [*words[:place], *words[place + 2 :]]
    return [*words, "--range"]


def installs(words: list[str]) -> None:
    """`pip install`: the extras that it names are there."""
    extras = re.findall(r"(?:lat-search|\.)\[([\w,]+)\]", shlex.join(words))
    unknown = {name for names in extras for name in names.split(",")} - set(
        PROJECT["optional-dependencies"]
    )
    assert not unknown, f"{shlex.join(words)}: no such extra: {unknown}"


def in_no_time(card: str) -> str:
    """The text of a card, made content with few short samples, warm as the device may be."""
    return re.sub(r"(?m)^(sample_ms|cool_below_c).*\n", "", card).replace("[measuring]\n", QUICK)


def pretend_cpu(more: Iterable[OpSpec] = ()) -> None:
    """Make the card `cpu` one that answers from a table (`answering`), and keep what we ship of
    that table as the one that was measured for it."""
    cards = user_folder() / "cards"
    cards.mkdir(parents=True, exist_ok=True)
    (cards / "cpu.toml").write_text(answering("cpu", more))
    table = _shipped()
    hardware = f"replay of {table.setting.hardware} cpu"
    setting = replace(table.setting, device="cpu", hardware=hardware, transport="replay")
    replace(table, setting=setting).save(user_folder() / f"{setting.stem}.csv")


def answering(name: str, more: Iterable[OpSpec] = ()) -> str:
    """The text of a card for a device of hardware of its own that answers from rows of a table
    that we ship, on every machine and in no time, and of `more` operators something made up."""
    table = _shipped()
    setting = replace(table.setting, hardware=f"{table.setting.hardware} {name}")
    made_up = {op: _row(0.01 + op.macs * 1e-7) for op in more}
    path = user_folder().parent / f"answers-{name}.csv"
    replace(table, setting=setting, rows={**made_up, **table.rows}).save(path)
    return f"transport = 'replay'\n[replay]\ntable = '{path}'\n{QUICK}"


@cache
def _shipped() -> LatencyTable:
    """That of the steadiest machine, among those with kernels."""
    tables = map(LatencyTable.load, shipped_folder().glob("*onnxruntime*.csv"))
    whole = [table for table in tables if SUITE in table.validations]
    return _fewer_kernels(min(whole, key=lambda table: table.validations["mini@32"].worst))


def _fewer_kernels(table: LatencyTable) -> LatencyTable:
    """The table's operators of two spaces and what `--check` runs, and a share of its kernels:
    models of few rows are fitted sooner."""
    ops = {op for name in ("mini", "proxyless") for op in spaces.load(name).operators}
    others = sorted(table.rows.keys() - ops, key=lambda op: op.key)
    rows = {op: row for op, row in table.rows.items() if op in {*ops, *others[::6]}}
    return replace(table, rows={**rows, PROBE: _row(0.03)})


def _row(ms: float) -> Measurement:
    return Measurement(ms, 0.003 * ms, 50, ms)
