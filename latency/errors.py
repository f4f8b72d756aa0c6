"""Errors of the project: what was wrong, where, and what to do next.

The library raises them; the commands print them as one line and exit with `exit_code`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class LatError(Exception):
    """The job failed (base class of every error that the project raises on purpose)."""

    exit_code = 1


class UsageError(LatError):
    """Invalid input: an unknown name, a wrong unit, an option or a folder that does not fit."""

    exit_code = 2


class InfeasibleError(UsageError):
    """No network of the space is within the budget."""


class SpecError(LatError):
    """An operator or network whose description is not valid."""


class TableError(LatError):
    """A lookup table that cannot be read; names the file and the line."""


class CoverageError(LatError):
    """Operators are missing from a latency model. `missing` has their keys."""

    def __init__(self, missing: Iterable[str], where: str, remedy: str) -> None:
        self.missing = tuple(missing)
        named = ", ".join(self.missing[:3])
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        count = f"{len(self.missing)} operator(s) are missing from {where}"
        super().__init__(f"{count}: {named}{more}; {remedy}")


class DeviceError(LatError):
    """A device, its runtime or its card failed."""


class ConnectionLostError(DeviceError):
    """The device, or the process on it, went away; it may come back."""


class WorkloadError(DeviceError):
    """The device is well, but cannot load or run this one model."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among `known`, which it lists with the nearest first.

    >>> str(unknown_name("space", "minni", ["mini", "proxyless"]))
    "unknown space 'minni': did you mean 'mini'? (known: mini, proxyless)"
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f": did you mean '{near[0]}'?" if near else ""
    return UsageError(f"unknown {what} '{name}'{hint} (known: {', '.join(known) or 'none'})")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turns a package that is missing inside into a `UsageError` that says which extra of this
    project brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the package {error.name} is needed; install it: pip install 'lat-search[{name}]'"
        ) from None
