"""The ways of a command: functions, of which its options choose one."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

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
    allowed = {*parameters_of(way), *COMMON_OPTIONS, chosen_by}
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in allowed and _is_given(context, parameter.name or "")
    ]
    if given:
        raise UsageError(f"{why}: leave out {', '.join(given)}")


def arguments_of(way: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that `way` has a parameter for."""
    return {name: options[name] for name in parameters_of(way)}


def parameters_of(way: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a way's parameters; of `**options: Unpack[Options]`, those of the typed
    dictionary."""
    names: list[str] = []
    for name, parameter in inspect.signature(way).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (options,) = get_args(parameter.annotation)
            names += get_type_hints(options)
        else:
            names.append(name)
    return tuple(names)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
