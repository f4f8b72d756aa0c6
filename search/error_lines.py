"""From an error to the line that a command prints and the exit code that it ends with."""

import errno
import re
import sys
import traceback
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from latency.errors import LatError
from latency.files import NotAFileError
from latency.tables.library import user_folder

_MOST_SHOWN = 1500
"""Characters of an error: names of a file may be of any length."""
_ABSENT = FileNotFoundError, IsADirectoryError, NotADirectoryError, NotAFileError
"""Errors of the system for a file that is not there."""


def options_named(text: str, options: Mapping[str, str]) -> str:
    """The text with the options of a command in place of its parameters, as in "`out`"."""
    return re.sub("`([a-z_]+)`", lambda found: options.get(found[1], found[0]), text)


def exit_code(error: BaseException, arguments: Mapping[str, object]) -> int:
    """1, or 2 for invalid input, the name of an absent file or of a folder for a file included."""
    if isinstance(error, LatError) and error.exit_code != 1:
        return error.exit_code
    lists = (value if isinstance(value, list) else [value] for value in arguments.values())
    given = {str(value) for value in chain.from_iterable(lists)}
    absent = [one for one in (error, error.__context__) if isinstance(one, _ABSENT)]
    return 2 if any(str(one.filename) in given for one in absent) else 1


def in_one_line(error: BaseException, go_on: str = "") -> str:
    """An error's message in one line: its beginning and its end, if names in it are long."""
    line = " ".join(_message(error, go_on).split())
    return line if len(line) <= _MOST_SHOWN else f"{line[: _MOST_SHOWN // 2]} ... {line[-300:]}"


def _message(error: BaseException, go_on: str) -> str:
    if isinstance(error, LatError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted{f' by {error}' if str(error) else ''}{go_on}"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return f"{where}{error.strerror}{f': make room{go_on}' if full else ''}"
    message = f"a fault of lat-search itself: {type(error).__name__}: {error}"
    return f"{message}; {_kept(user_folder() / 'last-error.txt')}"


def _kept(path: Path) -> str:
    """Write the traceback to a file, for a report of the fault; what became of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{' '.join(sys.argv)}\n{traceback.format_exc()}")
    except OSError:
        return "--debug shows where"
    return f"where it arose is in {path}"


def parser_message(error: Exception) -> tuple[str, str] | None:
    """The program and the message of an error that the argument parser raised; None for any
    other error."""
    describe = getattr(error, "format_message", None)
    if describe is None:
        return None
    context = getattr(error, "ctx", None)
    return (context.command_path if context else ""), " ".join(describe().split())
