"""When something was measured, as rows and headers of tables write it (ISO 8601)."""

from datetime import UTC, datetime

NEVER = datetime.min.replace(tzinfo=UTC)


def time_of(stamp: str) -> datetime:
    """The time of a stamp, in UTC if it names no zone; before all others if it is not valid.

    >>> time_of("2026-11-24T21:34:31Z") > time_of("2026-11-24") > time_of("")
    True
    """
    try:
        time = datetime.fromisoformat(stamp.strip())
    except ValueError:
        return NEVER
    return time if time.tzinfo else time.replace(tzinfo=UTC)
