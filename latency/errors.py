"""Errors of the project. Commands print them as one line and exit with `exit_code`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class LatError(Exception):
    """Base class of all errors of the project."""

    exit_code = 1


class UsageError(LatError):
    """Invalid input, such as an unknown name or a wrong unit."""

    exit_code = 2


class InfeasibleError(UsageError):
    """No network of the space is within the budget."""


class SpecError(LatError):
    """An operator or network that is not valid."""


class TableError(LatError):
    """A lookup table that is not valid; names file and line."""


class CoverageError(LatError):
    """Operators are missing from a latency model; `missing` has their keys."""

    def __init__(self, missing: Iterable[str], where: str, remedy: str) -> None:
        self.missing = tuple(missing)
        named = ", ".join(self.missing[:3])
        more = f" and {len(self.missing) - 3} more" if len(self.missing) > 3 else ""
        count = f"{len(self.missing)} operator(s) are missing from {where}"
        super().__init__(f"{count}: {named}{more}; {remedy}")


class DeviceError(LatError):
    """A device, its runtime or its card failed."""


class ConnectionLostError(DeviceError):
    """The connection to the device, or the process on it, was lost."""


class WorkloadError(DeviceError):
    """The device cannot load or run this model."""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among `known`.

    >>> str(unknown_name("space", "minni", ["mini", "proxyless"]))
    "unknown space 'minni': did you mean 'mini'? (known: mini, proxyless)"
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f": did you mean '{near[0]}'?" if near else ""
    return UsageError(f"unknown {what} '{name}'{hint} (known: {', '.join(known) or 'none'})")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a missing package into a `UsageError` that names the extra to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the package {error.name} is needed; install it: pip install 'lat-search[{name}]'"
        ) from None
