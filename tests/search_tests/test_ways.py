"""A way of a command refuses the options that it has no parameter for."""

from typing import Annotated

import pytest
import typer

from search.commands.ways import refuse_others
from search.console import run


def measure(*, device: str, as_json: bool) -> None:
    """A way that takes a device."""


def command(
    context: typer.Context,
    device: str = "cpu",
    width: float = 1.0,
    only_check: Annotated[bool, typer.Option("--check")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    refuse_others(context, measure, "--check only checks", chosen_by="only_check")


def main() -> None:
    run(command, "lat-test")


def test_options_that_a_way_takes_and_those_of_all_commands_are_allowed(invoke):
    code, _, err = invoke(main, "--check", "--device", "gpu", "--json", "--verbose")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_an_option_that_a_way_does_not_take_is_refused_even_if_it_equals_the_default(invoke, width):
    code, _, err = invoke(main, "--check", "--width", width)
    assert code == 2
    assert "lat-test: --check only checks: leave out --width" in err
