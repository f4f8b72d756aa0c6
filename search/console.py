"""Common parts of all commands: options, one-line errors, exit codes, progress bars."""

import inspect
import logging
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Annotated

import typer
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from latency.errors import LatError, SpecError, TableError
from latency.files import NotAFileError
from search.shown_text import PlainConsole, output_console, plain_output

if TYPE_CHECKING:  # devices.measuring imports onnx, which few commands need
    from devices.measuring.rounds import OnProgress
    from devices.measuring.rounds import Progress as Measured

Command = Callable[..., None]

notices = PlainConsole(stderr=True)
"""Standard error: progress, notices and errors. Standard output is for results."""

_INTERRUPTED = 130
"""The argument parser's return value for a command that Ctrl-C interrupted."""
_MISSING_FILE = FileNotFoundError, IsADirectoryError, NotADirectoryError, NotAFileError
_LONGEST = 1500
"""Characters of an error: names in a file may have any length."""


def version() -> str:
    """The version of lat-search."""
    return installed_version("lat-search")


def notice(text: str) -> None:
    """Print a message to standard error."""
    notices.print(text, soft_wrap=True)


def folded(text: str, indent: int = 2) -> str:
    """Wrap text to 80 columns, with all lines but the first indented; words are never broken."""
    lines = textwrap.TextWrapper(80, subsequent_indent=" " * indent)
    lines.break_long_words = lines.break_on_hyphens = False
    return lines.fill(text)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal (80 columns without one), with long cells wrapped."""
    for column in table.columns:
        column.overflow = "fold"
    output_console().print(table)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A progress bar with the remaining time; hidden if `quiet` or not on a terminal."""
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notices,
        disable=quiet or not notices.is_terminal,
    ) as progress:
        yield progress


def following(bar: Progress, doing: str = "", visible: bool = True) -> "OnProgress":
    """A callback that shows the progress of measurements on a bar. `doing` replaces their own
    descriptions. Use `visible=False` if nothing will be measured."""
    task = bar.add_task(doing or "measuring", total=None, visible=visible)

    def show(progress: "Measured") -> None:
        row = bar.tasks[task]  # update(total=...) would reset the speed
        row.total, row.finished_time = progress.total, None
        bar.update(task, description=doing or progress.doing, completed=progress.done)

    return show


def run(commands: Command | Mapping[str, Command], name: str, about: str = "") -> None:
    """Run a command as the program `name`, or one of several subcommands with the help `about`.

    Adds the options --verbose, --debug and --version, and shell completion. Exits with 0 for
    success, 1 if the job failed or was interrupted (by Ctrl-C, SIGTERM or SIGHUP), 2 for invalid
    input.
    """
    app = typer.Typer(pretty_exceptions_enable=False)
    if callable(commands):
        app.command()(_with_common_options(commands))
    else:
        app.callback(help=about)(_of_all_subcommands)
        for subcommand, command in commands.items():
            app.command(subcommand)(_with_common_options(command))
    try:
        with _signals_as_ctrl_c():
            code = app(prog_name=name, standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Exception as error:
        if not hasattr(error, "format_message"):  # not raised by the argument parser
            raise
        context = getattr(error, "ctx", None)
        program = context.command_path if context else name
        message = " ".join(error.format_message().split()).replace("Value error, ", "")
        notice(f"{program}: {message} (see --help)")
        code = 2
    if code == _INTERRUPTED:  # while options were parsed
        notice(f"{name}: interrupted")
        code = 1
    sys.exit(code)


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like Ctrl-C, so that clean-up code runs. Only the first signal
    counts: closing a terminal sends several. Ignored signals (nohup) stay ignored. Processes of
    torchrun keep their handlers, since they may be blocked in communication.
    """
    received: list[int] = []

    def end(number: int, frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt(signal.Signals(number).name)

    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if is_alone and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in () if received else handled:
            signal.signal(number, signal.SIG_DFL)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"lat-search {version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log each step.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log more, and print tracebacks of errors.")]


def _of_all_subcommands(version: Version = False) -> None:
    """Options before a subcommand."""


def _with_common_options(command: Command) -> Command:
    """The command with the options of all commands; it prints an error as one line, and exits with
    its code."""

    def with_options(
        context: typer.Context,
        verbose: Verbose = False,
        debug: Debug = False,
        version: Version = False,
        **arguments: object,
    ) -> None:
        _log(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
        with _errors_in_one_line(context, debug), plain_output():
            command(**arguments)

    *common, _ = inspect.signature(with_options).parameters.values()
    parameters = [*inspect.signature(command).parameters.values(), *common]
    called = wraps(command)(with_options)
    called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    called.__annotations__ = {one.name: one.annotation for one in parameters}
    return called


def _log(level: int) -> None:
    """Show this project's log messages from this level up."""
    handler = RichHandler(console=notices, show_level=False, show_path=False, highlighter=None)
    for package in ("latency", "devices", "search"):
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(level)


@contextmanager
def _errors_in_one_line(context: typer.Context, debug: bool) -> Iterator[None]:
    """Turn an error of a command into one line and an exit code; with `debug`, print the traceback
    first.

    Messages of the library name parameters: "`out`" is printed as --out.
    """
    options = {
        str(parameter.name): option
        for parameter in context.command.params
        for option in parameter.opts
        if option.startswith("--")
    }
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:  # as in `lat-table show cpu | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (Exception, KeyboardInterrupt) as error:
        line = in_one_line(error)
        if isinstance(error, KeyboardInterrupt) and "resume" in options:
            line += "; the same command with --resume continues from here"
        line = re.sub("`([a-z_]+)`", lambda found: options.get(found[1], found[0]), line)
        with suppress(OSError):  # the terminal was closed
            if debug:
                notice(traceback.format_exc().rstrip())
            notice(f"{context.command_path}: {line}")
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: BaseException) -> int:
    """1, or 2 for invalid input, which includes the name of a missing file."""
    if isinstance(error, LatError) and error.exit_code != 1:
        return error.exit_code
    is_of_a_file = isinstance(error, OSError | SpecError | TableError)
    is_missing = any(isinstance(one, _MISSING_FILE) for one in (error, error.__context__))
    return 2 if is_of_a_file and is_missing else 1


def in_one_line(error: BaseException) -> str:
    """An error's message in one line; of a very long one, its beginning and its end."""
    if isinstance(error, LatError):
        message = str(error)
    elif isinstance(error, KeyboardInterrupt):
        message = f"interrupted by {error}" if str(error) else "interrupted"
    elif isinstance(error, OSError) and error.errno is not None:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    else:
        name = type(error).__name__
        message = f"internal error: {name}: {error}; --debug shows the traceback"
    line = " ".join(message.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-300:]}"
