"""The ways of a command: functions, of which its options choose one."""

import inspect
from collections.abc import Callable
from typing import Any

import typer

from latency.errors import UsageError
from search.console import COMMON_OPTIONS


def refuse_others(
    context: typer.Context, way: Callable[..., Any], why: str, chosen_by: str | None = None
) -> None:
    """Raise `UsageError` if an option was given on the command line that `way` has no parameter
    for. The message is "{why}: leave out --x, --y".

    An option and the parameter of `way` that it goes to have the same name. `chosen_by` is the
    parameter of the command whose option chose the way, if the way itself does not take it. The
    options of all commands (--verbose, for example) are always allowed.
    """
    allowed = {*inspect.signature(way).parameters, *COMMON_OPTIONS, chosen_by}
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed and _is_given(context, parameter.name or "")
    ]
    if given:
        raise UsageError(f"{why}: leave out {', '.join(given)}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
