"""What all commands have in common: their options, errors as one line, exit codes, progress."""

import errno
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
from itertools import chain
from pathlib import Path
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

from latency.errors import LatError
from latency.files import NotAFileError
from latency.tables.library import user_folder
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
_MOST_SHOWN = 1500
"""Characters of an error: names of a file may be of any length."""
_ABSENT = FileNotFoundError, IsADirectoryError, NotADirectoryError, NotAFileError
"""What the system says of a file that is not there."""


def version() -> str:
    """The tool's version."""
    return installed_version("lat-search")


def notice(text: str) -> None:
    """Tell the user something that is no result."""
    notices.print(text, soft_wrap=True)


def folded(text: str, indent: int = 2) -> str:
    """Text in lines of 80 columns, all but the first indented; no path and no option is broken."""
    lines = textwrap.TextWrapper(80, subsequent_indent=" " * indent)
    lines.break_long_words = lines.break_on_hyphens = False
    return lines.fill(text)


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or in 80 columns where there is none; a cell that
    is too long goes on below."""
    for column in table.columns:
        column.overflow = "fold"
    output_console().print(table)


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A bar with time left on a terminal; nothing where there is none, or where asked for."""
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
    """What shows the progress of measurements on a bar, one after the other; `doing` says what for,
    in place of what each says of itself. Not `visible` where nothing will be measured."""
    task = bar.add_task(doing or "measuring", total=None, visible=visible)

    def show(progress: "Measured") -> None:
        row = bar.tasks[task]  # update(total=...) would forget the speed so far
        row.total, row.finished_time = progress.total, None
        bar.update(task, description=doing or progress.doing, completed=progress.done)

    return show


def run(commands: Command | Mapping[str, Command], name: str, about: str = "") -> None:
    """Run a command as the program `name`, or the one of several that the first word names.

    `about` is the help of a program of several commands. All of them get the options of
    `_common_options` beside their own, and the program the completion of the user's shell. Ends
    the process with its exit code: 0 done, 1 the job failed or was interrupted (by Ctrl-C, SIGTERM
    or SIGHUP), 2 the user's words are off.
    """
    app = typer.Typer(pretty_exceptions_enable=False)
    if callable(commands):
        app.command()(_with_common_options(commands, name))
    else:
        app.callback(help=about)(_before_a_command)
        for word, command in commands.items():
            app.command(word)(_with_common_options(command, f"{name} {word}"))
    try:
        with _signals_as_ctrl_c():
            code = app(prog_name=name, standalone_mode=False) or 0
    except (typer.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    except Exception as error:
        if (said := _parser_message(error)) is None:
            raise
        notice(f"{said[0] or name}: {said[1]} (see --help)")
        code = 2
    if code == _INTERRUPTED:  # while the words were read
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
    bool, typer.Option("--verbose", "-v", help="Say what is being done, step by step.")
]
Debug = Annotated[
    bool, typer.Option("--debug", help="Say more, and where in the code an error arose.")
]


def _before_a_command(
    context: typer.Context, verbose: Verbose = False, debug: Debug = False, version: Version = False
) -> None:
    """Options of a program of several commands, before the command, which takes them over."""
    said = {"verbose": verbose, "debug": debug}
    context.default_map = {context.invoked_subcommand or "": said}


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

    @wraps(command)
    def with_options(verbose: bool, debug: bool, version: bool, **words: object) -> None:
        _log(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
        with _errors_in_one_line(program, debug, words), plain_output():
            command(**words)

    with_options.__signature__ = own.replace(parameters=list(parameters.values()))  # type: ignore[attr-defined]
    with_options.__annotations__ = {name: p.annotation for name, p in parameters.items()}
    return with_options


def _log(level: int) -> None:
    """Show what the project's own code logs from this level up."""
    handler = RichHandler(console=notices, show_level=False, show_path=False, highlighter=None)
    for room in _ROOMS:
        logger = logging.getLogger(room)
        logger.handlers = [handler]
        logger.setLevel(level)


@contextmanager
def _errors_in_one_line(program: str, debug: bool, words: Mapping[str, object]) -> Iterator[None]:
    """Turn what a command raises into one line and an exit code; before it, with `debug`, the
    traceback. `words`: what the command was given."""
    go_on = "; the same words with --resume go on from here" if "resume" in words else ""
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
            notice(f"{program}: {in_one_line(error, go_on)}")
        raise typer.Exit(_exit_code(error, words)) from None


def _exit_code(error: BaseException, words: Mapping[str, object]) -> int:
    """1, or 2 where the user's words are off: so they are, too, where they name a file that is not
    there, or a folder for a file."""
    if isinstance(error, LatError) and error.exit_code != 1:
        return error.exit_code
    lists = (word if isinstance(word, list) else [word] for word in words.values())
    given = {str(word) for word in chain.from_iterable(lists)}
    absent = [one for one in (error, error.__context__) if isinstance(one, _ABSENT)]
    return 2 if any(str(one.filename) in given for one in absent) else 1


def in_one_line(error: BaseException, go_on: str = "") -> str:
    """What a command says of an error: its beginning and its end, where names in it are long."""
    said = " ".join(_said(error, go_on).split())
    return said if len(said) <= _MOST_SHOWN else f"{said[: _MOST_SHOWN // 2]} ... {said[-300:]}"


def _said(error: BaseException, go_on: str) -> str:
    if isinstance(error, LatError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted{f' by {error}' if str(error) else ''}{go_on}"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{where}{error.strerror}{f': make room{go_on}' if full else ''}"
    said = f"a fault of lat-search itself: {type(error).__name__}: {error}"
    kept = user_folder() / "last-error.txt"
    return f"{said}; {_kept(kept)}"


def _kept(path: Path) -> str:
    """Write the traceback to a file, for a report of the fault; what became of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{' '.join(sys.argv)}\n{traceback.format_exc()}")
    except OSError:
        return "--debug shows where"
    return f"where it arose is in {path}"


def _parser_message(error: Exception) -> tuple[str, str] | None:
    """The program and the message of an error that the argument parser raised; None for any
    other error."""
    describe = getattr(error, "format_message", None)
    if describe is None:
        return None
    context = getattr(error, "ctx", None)
    return (context.command_path if context else ""), " ".join(describe().split())
