"""What all commands have in common: their options, errors as one line, exit codes, progress."""

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

if TYPE_CHECKING:  # measuring loads onnx, which few commands need
    from devices.measuring.rounds import OnProgress
    from devices.measuring.rounds import Progress as Measured

Command = Callable[..., None]

notices = PlainConsole(stderr=True)
"""For people: progress, notices and errors. Standard output is for results."""

_ROOMS = ("latency", "devices", "search")
_INTERRUPTED = 130
"""What the argument parser returns when Ctrl-C ended the command."""


def version() -> str:
    """The tool's version."""
    return installed_version("lat-search")


def notice(text: str) -> None:
    """Print a message for people, which is not a result, to standard error."""
    notices.print(text, soft_wrap=True)


def folded(text: str, indent: int = 2) -> str:
    """Text in lines of 80 columns, all but the first indented; no path and no option is broken."""
    lines = textwrap.TextWrapper(80, subsequent_indent=" " * indent)
    lines.break_long_words = lines.break_on_hyphens = False
    return lines.fill(text)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or in 80 columns where there is none; a cell that
    is too long continues below."""
    for column in table.columns:
        column.overflow = "fold"
    output_console().print(table)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A bar with the time left on a terminal; nothing elsewhere, or if `quiet`."""
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
    """A callback that shows the progress of measurements on a bar, one after the other. `doing`
    replaces their own descriptions. Use `visible=False` if nothing will be measured."""
    task = bar.add_task(doing or "measuring", total=None, visible=visible)

    def show(progress: "Measured") -> None:
        row = bar.tasks[task]  # update(total=...) would forget the speed so far
        row.total, row.finished_time = progress.total, None
        bar.update(task, description=doing or progress.doing, completed=progress.done)

    return show


def run(commands: Command | Mapping[str, Command], name: str, about: str = "") -> None:
    """Run a command as the program `name`, or the one of several that the first argument names.

    `about` is the help of a program of several commands. All of them get the options of
    `_common_options` beside their own, and the program the completion of the user's shell. Ends
    the process with its exit code: 0 done, 1 the job failed or was interrupted (by Ctrl-C, SIGTERM
    or SIGHUP), 2 invalid input.
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
    if code == _INTERRUPTED:  # while the options were parsed
        notice(f"{name}: interrupted")
    sys.exit(1 if code == _INTERRUPTED else code)


class _SignalledError(KeyboardInterrupt):
    """A signal asks the process to end; it is dealt with as Ctrl-C is."""


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end what is inside as Ctrl-C does, so that it is cleaned up after:
    the first of them; those that come while it ends, as a closed terminal sends several, change
    nothing. What is ignored (nohup) stays ignored, and the processes of a torchrun, which may
    wait for each other where no signal is seen, end as they did.
    """
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        if len(came) == 1:
            raise _SignalledError(signal.Signals(number).name)

    is_alone = os.environ.get("WORLD_SIZE", "1") == "1"
    is_main = threading.current_thread() is threading.main_thread()
    ours = [
        one
        for one in (signal.SIGTERM, signal.SIGHUP)
        if is_alone and is_main and signal.getsignal(one) is signal.SIG_DFL
    ]
    for one in ours:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in () if came else ours:
            signal.signal(one, signal.SIG_DFL)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"lat-search {version()}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version, and end."
    ),
]


Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print what is being done, step by step.")
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Print more, and where in the code an error arose.")
]


def _before_a_command(
    context: typer.Context, verbose: Verbose = False, debug: Debug = False, version: Version = False
) -> None:
    """Options of a program of several commands, before the command, which takes them over."""
    given = {"verbose": verbose, "debug": debug}
    context.default_map = {context.invoked_subcommand or "": given}


def _common_options(
    verbose: Verbose = False, debug: Debug = False, version: Version = False
) -> None:
    """Options of every command."""


COMMON_OPTIONS = frozenset(inspect.signature(_common_options).parameters)
"""Names of the parameters that every command has: verbose, debug, version."""


def _with_common_options(command: Command, program: str) -> Command:
    """The command with the options of all commands beside its own; its errors end it by their
    exit code, with one line."""
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
    """The options of a command, --input-shape for example, by the parameters that they go to."""
    options = {}
    for name, parameter in signature.parameters.items():
        infos = getattr(parameter.annotation, "__metadata__", ())
        if any(isinstance(info, ArgumentInfo) for info in infos):
            continue
        spellings = [
            str(one)
            for info in infos
            if isinstance(info, OptionInfo)
            # Inside `Annotated`, typer takes the first spelling for a default.
            for one in (info.default, *(info.param_decls or ()))
        ]
        spellings.append(f"--{name.replace('_', '-')}")
        options[name] = next(o for o in spellings if o.startswith("--")).partition("/")[0]
    return options


def _log(level: int) -> None:
    """Show what the project's own code logs from this level up."""
    handler = RichHandler(console=notices, show_level=False, show_path=False, highlighter=None)
    for room in _ROOMS:
        logger = logging.getLogger(room)
        logger.handlers = [handler]
        logger.setLevel(level)


@contextmanager
def _errors_in_one_line(
    program: str, debug: bool, options: Mapping[str, str], arguments: Mapping[str, object]
) -> Iterator[None]:
    """Turn an error of a command into one line and an exit code; with `debug`, the traceback comes
    first. `options` and `arguments` are those of the command, by its parameters' names.

    The library names parameters: where it writes "`out`", the line has the option --out.
    """
    go_on = "; the same command with --resume continues from here" if "resume" in arguments else ""
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:  # as in `lat-table show cpu | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):  # where the terminal was closed
            if debug:
                notice(traceback.format_exc().rstrip())
            notice(f"{program}: {options_named(in_one_line(error, go_on), options)}")
        raise typer.Exit(exit_code(error, arguments)) from None
