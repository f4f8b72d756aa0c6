"""Durations as people write them, in and out."""

import math
import re

from latency.errors import UsageError

_TO_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_DURATION = re.compile(r"\s*(nan|[+-]?inf|[^a-zµ\s]*)\s*([a-zµ]*)\s*", re.IGNORECASE)


def parse_ms(text: str) -> float:
    """Milliseconds of a duration such as "5ms", "0.8 ms", "750us" or "0.02s".

    Raises `UsageError` without a number or a unit, and for zero, negative and non-finite ones.

    >>> parse_ms("750us")
    0.75
    """
    parts = _DURATION.fullmatch(text)
    try:
        number = float(parts[1]) if parts else math.nan
    except ValueError:
        raise UsageError(f"'{text}' has no number; write a duration such as 5ms") from None
    unit = parts[2].lower() if parts else ""
    if math.isnan(number) or math.isinf(number):
        raise UsageError(f"'{text}' is not a finite duration; write one such as 5ms")
    if not unit:
        raise UsageError(f"'{text}' has no unit; write {text.strip()}ms for milliseconds")
    if unit not in _TO_MS:
        raise UsageError(f"'{text}': unknown unit '{unit}' (known: {', '.join(_TO_MS)})")
    if number <= 0:
        raise UsageError(f"'{text}' is not more than zero; write a duration such as 5ms")
    return number * _TO_MS[unit]


def format_ms(ms: float) -> str:
    """A latency in the unit that suits its size, with three significant digits.

    >>> format_ms(1.8349), format_ms(0.0213), format_ms(2510.0)
    ('1.83 ms', '21.3 µs', '2.51 s')
    """
    for unit, in_ms in (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)):
        if abs(ms) >= 0.9995 * in_ms or unit == "ns":
            return f"{_three_digits(ms / in_ms)} {unit}"
    raise AssertionError("unreachable")


def _three_digits(number: float) -> str:
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(number) * 1.0005)))
    return f"{number:.{decimals}f}"
