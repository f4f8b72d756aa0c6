"""Durations, counts and sizes as people write them, in and out."""

import math
import re

from latency.errors import UsageError

LEAST_MS = 1e-6
MOST_MS = 1e9
"""A latency lies between a nanosecond and eleven days: nothing outside was measured."""

_TO_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_TO_ONE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_TO_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_QUANTITY = re.compile(r"\s*((?i:nan|[+-]?inf)|[^a-zA-Zµ\s]*)\s*([a-zA-Zµ]*)\s*")
_GREEK_MU, _MICRO = "\u03bc", "\u00b5"


def parse_ms(text: str) -> float:
    """Milliseconds of a duration such as "5ms", "0.8 ms", "750us" or "0.02s".

    Raises `UsageError` without a number or a unit, and for zero, negative and non-finite ones.

    >>> parse_ms("750us")
    0.75
    """
    return _parse(text, "duration", "5ms", _TO_MS)


def parse_count(text: str) -> float:
    """A number such as "300M", "5.7M" or "1200000"; errors as in `parse_ms`.

    >>> parse_count("5.7M")
    5700000.0
    """
    return _parse(text, "number", "3M", _TO_ONE)


def parse_bytes(text: str) -> float:
    """Bytes of a size such as "2MB" or "512KiB"; errors as in `parse_ms`.

    >>> parse_bytes("512KiB")
    524288.0
    """
    return _parse(text, "size", "2MB", _TO_BYTES)


def _parse(text: str, what: str, example: str, units: dict[str, float]) -> float:
    parts = _QUANTITY.fullmatch(text.replace(_GREEK_MU, _MICRO))
    try:
        number = plain_number(parts[1]) if parts else math.nan
    except ValueError:
        raise UsageError(f"'{text}' has no number; write a {what} such as {example}") from None
    unit = parts[2].lower() if parts else ""
    if not math.isfinite(number * units.get(unit, 1.0)):
        raise UsageError(f"'{text}' is not a finite {what}; write one such as {example}")
    if not unit and "" not in units:
        raise UsageError(f"'{text}' has no unit; write {_with_unit(text, what)}")
    if unit not in units:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"'{text}': unknown unit '{unit}' (known: {known})")
    if number <= 0:
        raise UsageError(f"'{text}' is not more than zero; write a {what} such as {example}")
    return number * units[unit]


def _with_unit(text: str, what: str) -> str:
    if what == "duration":
        return f"{text.strip()}ms for milliseconds"
    return f"{text.strip()}MB for megabytes"


def plain_number(text: str) -> float:
    """A number in ASCII digits; `ValueError` for all else that Python takes for one: digits of
    other scripts, underscores, spaces around it."""
    if not text.isascii() or "_" in text or text != text.strip():
        raise ValueError(f"'{text[:40]}' is not a number")
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is not a number") from None


def plain_whole(text: str) -> int:
    """A whole number in ASCII digits, with no sign; `ValueError` as of `plain_number`."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"'{text[:40]}' is not a whole number")
    return int(text)


def format_ms(ms: float) -> str:
    """A latency in the unit that suits its size, with three significant digits.

    >>> format_ms(1.8349), format_ms(0.0213), format_ms(2510.0)
    ('1.83 ms', '21.3 µs', '2.51 s')
    """
    return _scaled(ms, (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)))


def format_count(number: float) -> str:
    """A number with three significant digits and a thousand's letter.

    >>> format_count(5_712_000), format_count(320e6)
    ('5.71 M', '320 M')
    """
    return _scaled(number, (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)))


def format_bytes(number: float) -> str:
    """A size in bytes, with three significant digits.

    >>> format_bytes(2_408_448)
    '2.41 MB'
    """
    return _scaled(number, (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)))


def format_amount(amount: float, unit: str) -> str:
    """An amount in ms, in bytes, or ("") a count.

    >>> format_amount(1.8349, "ms"), format_amount(2_408_448, "bytes"), format_amount(320e6, "")
    ('1.83 ms', '2.41 MB', '320 M')
    """
    write = {"ms": format_ms, "bytes": format_bytes}.get(unit, format_count)
    return write(amount)


def _scaled(number: float, units: tuple[tuple[str, float], ...]) -> str:
    unit, size = next((u for u in units if abs(number) >= 0.9995 * u[1]), units[-1])
    return f"{_three_digits(number / size)} {unit}".strip()


def _three_digits(number: float) -> str:
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(number) * 1.0005)))
    return f"{number:.{decimals}f}"
