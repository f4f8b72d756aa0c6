"""What the commands have in common: errors as one line, exit codes, progress."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed_version

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from latency.errors import LatError

notices = Console(stderr=True, highlight=False)
"""For people: progress, notices and errors. Standard output is for results."""


def version() -> str:
    """The tool's version."""
    return installed_version("lat-search")


def notice(text: str) -> None:
    """Tell the user something that is no result."""
    notices.print(text, markup=False, soft_wrap=True)


_INTERRUPTED = 130
"""What the argument parser returns when Ctrl-C ended the command."""


def run(command: Callable[..., None], name: str) -> None:
    """Run a command as the program `name`; ends the process with its exit code.

    0 done, 1 the job failed or was interrupted, 2 the user's words are off.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        if app(prog_name=name, standalone_mode=False) == _INTERRUPTED:
            raise KeyboardInterrupt
    except LatError as error:
        notice(f"{name}: {error}")
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        notice(f"{name}: interrupted; the same words with --resume go on from here")
        sys.exit(1)
    except OSError as error:
        notice(f"{name}: {error.filename or ''}: {error.strerror or error}")
        sys.exit(1)
    except Exception as error:
        if (text := _click_message(error)) is None:
            raise
        notice(f"{name}: {text}")
        sys.exit(2)
    sys.exit(0)


def _click_message(error: Exception) -> str | None:
    """The message of an error that the argument parser raised; None for any other error."""
    describe = getattr(error, "format_message", None)
    return f"{describe()} (see --help)" if describe else None


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Progress]:
    """A bar with time left on a terminal; nothing where there is none, or where asked for."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notices,
        disable=quiet or not notices.is_terminal,
    ) as progress:
        yield progress
