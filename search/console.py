"""Common parts of all commands: options, one-line errors, exit codes, progress bars."""

import inspect
import logging
import os
import signal
import sys
import textwrap
import threading
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
from typer.models import ArgumentInfo, OptionInfo

from search.error_lines import exit_code, in_one_line, options_named, parser_message
from search.shown_text import PlainConsole, output_console, plain_output

if TYPE_CHECKING:  # devices.measuring imports onnx, which few commands need
    from devices.measuring.rounds import OnProgress
    from devices.measuring.rounds import Progress as Measured

Command = Callable[..., None]

notices = PlainConsole(stderr=True)
"""Standard error: progress, notices and errors. Standard output is for results."""

_PACKAGES = ("latency", "devices", "search")
_INTERRUPTED = 130
"""Click's return value for a command that Ctrl-C interrupted."""


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

    Adds the options of `_common_options`, and shell completion. Exits with 0 for success, 1 if the
    job failed or was interrupted (by Ctrl-C, SIGTERM or SIGHUP), 2 for invalid input.
    """
    app = typer.Typer(pretty_exceptions_enable=False)
    if callable(commands):
        app.command()(_with_common_options(commands, name))
    else:
        app.callback(help=about)(_before_a_command)
        for subcommand, command in commands.items():
            app.command(subcommand)(_with_common_options(command, f"{name} {subcommand}"))
    try:
        with _signals_as_ctrl_c():
            code = app(prog_name=name, standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Exception as error:
        if (message := parser_message(error)) is None:
            raise
        notice(f"{message[0] or name}: {message[1]} (see --help)")
        code = 2
    if code == _INTERRUPTED:  # while options were parsed
        notice(f"{name}: interrupted")
    sys.exit(1 if code == _INTERRUPTED else code)


class _SignalledError(KeyboardInterrupt):
    """A signal to terminate, handled like Ctrl-C."""


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
            raise _SignalledError(signal.Signals(number).name)

    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    is_main = threading.current_thread() is threading.main_thread()
    handled = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if is_alone and is_main and signal.getsignal(number) is signal.SIG_DFL
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


def _before_a_command(
    context: typer.Context, verbose: Verbose = False, debug: Debug = False, version: Version = False
) -> None:
    """Make options before a subcommand the defaults of its own."""
    defaults = {"verbose": verbose, "debug": debug}
    context.default_map = {context.invoked_subcommand or "": defaults}


def _common_options(
    verbose: Verbose = False, debug: Debug = False, version: Version = False
) -> None:
    """Options of every command."""


COMMON_OPTIONS = frozenset(inspect.signature(_common_options).parameters)
"""Parameters of every command: verbose, debug, version."""


def _with_common_options(command: Command, program: str) -> Command:
    """The command with the common options; it prints an error as one line, and exits with its
    code."""
    own, shared = inspect.signature(command), inspect.signature(_common_options)
    parameters = {
        name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in {**own.parameters, **shared.parameters}.items()
    }
    options = _options(own)

    @wraps(command)
    def with_options(verbose: bool, debug: bool, version: bool, **arguments: object) -> None:
        _log(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
        with _errors_in_one_line(program, debug, options, arguments), plain_output():
            command(**arguments)

    with_options.__signature__ = own.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    with_options.__annotations__ = {name: p.annotation for name, p in parameters.items()}
    return with_options


def _options(signature: inspect.Signature) -> dict[str, str]:
    """The options of a command, such as --input-shape, by parameter name."""
    options = {}
    for name, parameter in signature.parameters.items():
        infos = getattr(parameter.annotation, "__metadata__", ())
        if any(isinstance(info, ArgumentInfo) for info in infos):
            continue
        spellings = [
            str(one)
            for info in infos
            if isinstance(info, OptionInfo)
            # In `Annotated`, typer stores the first spelling as the default.
            for one in (info.default, *(info.param_decls or ()))
        ]
        spellings.append(f"--{name.replace('_', '-')}")
        options[name] = next(o for o in spellings if o.startswith("--")).partition("/")[0]
    return options


def _log(level: int) -> None:
    """Show this project's log messages from this level up."""
    handler = RichHandler(console=notices, show_level=False, show_path=False, highlighter=None)
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.handlers = [handler]
        logger.setLevel(level)


@contextmanager
def _errors_in_one_line(
    program: str, debug: bool, options: Mapping[str, str], arguments: Mapping[str, object]
) -> Iterator[None]:
    """Turn an error of a command into one line and an exit code; with `debug`, print the traceback
    first. `options` and `arguments` are the command's, by parameter name.

    Messages of the library name parameters: "`out`" is printed as --out.
    """
    hint = "; the same command with --resume continues from here" if "resume" in arguments else ""
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:  # as in `lat-table show cpu | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):  # the terminal was closed
            if debug:
                notice(traceback.format_exc().rstrip())
            notice(f"{program}: {options_named(in_one_line(error, hint), options)}")
        raise typer.Exit(exit_code(error, arguments)) from None
