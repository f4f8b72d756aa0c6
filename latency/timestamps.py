"""When something was measured, as rows and headers of tables write it (ISO 8601)."""

from collections.abc import Iterable
from datetime import UTC, datetime

LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Before everything that was measured."""


def time_of(stamp: str) -> datetime | None:
    """The time that a stamp means, in UTC if it names no zone; None if it is not a time stamp.

    >>> time_of("2026-11-24T21:34:31Z") > time_of("2026-11-24")
    True
    """
    try:
        time = datetime.fromisoformat(stamp.strip())
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def newest(stamps: Iterable[str]) -> datetime | None:
    """The latest of the times that stamps mean; None where none means one."""
    return max((time for stamp in set(stamps) if (time := time_of(stamp))), default=None)


def latest(stamps: Iterable[str]) -> str:
    """The stamp of the latest time; of those that mean none, the last in order of the alphabet.

    >>> latest(["2026-11-24T23:00:00+00:00", "2026-11-25T00:30:00+02:00"])
    '2026-11-24T23:00:00+00:00'
    """
    return max(stamps, key=lambda stamp: (time_of(stamp) or LONG_AGO, stamp))


def is_newer(time: datetime | None, other: datetime | None) -> bool:
    """Whether a time is after another one; not where either is unknown."""
    return time is not None and other is not None and time > other
