"""Read and write durations, counts and sizes."""

import math
import re

from latency.errors import UsageError

LEAST_MS = 1e-6
MOST_MS = 1e9
"""Bounds of a measured latency: a nanosecond and eleven days."""

_TO_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_TO_ONE = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_TO_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_QUANTITY = re.compile(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-zA-Zµ]*)\s*")
_GREEK_MU, _MICRO = "\u03bc", "\u00b5"


def parse_ms(text: str) -> float:
    """Milliseconds of a duration such as "5ms", "0.8 ms", "750us" or "0.02s".

    Raises `UsageError` unless it is a positive finite number with a unit.

    >>> parse_ms("750us")
    0.75
    """
    return _parse(text, "duration such as 5ms", _TO_MS)


def parse_count(text: str) -> float:
    """A number such as "300M", "5.7M" or "1200000"; errors as in `parse_ms`.

    >>> parse_count("5.7M")
    5700000.0
    """
    return _parse(text, "number such as 3M", _TO_ONE)


def parse_bytes(text: str) -> float:
    """Bytes of a size such as "2MB" or "512KiB"; errors as in `parse_ms`.

    >>> parse_bytes("512KiB")
    524288.0
    """
    return _parse(text, "size such as 2MB", _TO_BYTES)


def _parse(text: str, what: str, units: dict[str, float]) -> float:
    found = _QUANTITY.fullmatch(text.replace(_GREEK_MU, _MICRO))
    amount = float(found[1]) * units.get(found[2].lower(), math.nan) if found else math.nan
    if not 0 < amount < math.inf:
        known = ", ".join(name for name in units if name)
        raise UsageError(f"'{text}' is not a positive {what} (units: {known})")
    return amount


def plain_number(text: str) -> float:
    """A number in ASCII digits; `ValueError` otherwise, also for underscores and outer spaces."""
    try:
        if text.isascii() and "_" not in text and text == text.strip():
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"'{text[:40]}' is not a number")


def plain_whole(text: str) -> int:
    """A whole number in ASCII digits without a sign; `ValueError` otherwise."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"'{text[:40]}' is not a whole number")
    return int(text)


_SCALES = {
    "ms": (("s", 1e3), ("ms", 1.0), ("µs", 1e-3), ("ns", 1e-6)),
    "bytes": (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "": (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)),
}


def format_ms(ms: float) -> str:
    """A latency in the unit that suits its size, with three significant digits.

    >>> format_ms(1.8349), format_ms(0.0213), format_ms(2510.0)
    ('1.83 ms', '21.3 µs', '2.51 s')
    """
    return format_amount(ms, "ms")


def format_count(number: float) -> str:
    """A number with three significant digits, as in "5.71 M"."""
    return format_amount(number, "")


def format_bytes(number: float) -> str:
    """A size in bytes with three significant digits, as in "2.41 MB"."""
    return format_amount(number, "bytes")


def format_amount(amount: float, unit: str) -> str:
    """An amount in "ms", in "bytes", or ("") a count, with three significant digits.

    >>> format_amount(1.8349, "ms"), format_amount(2_408_448, "bytes"), format_amount(320e6, "")
    ('1.83 ms', '2.41 MB', '320 M')
    """
    scales = _SCALES.get(unit, _SCALES[""])
    name, size = next((s for s in scales if abs(amount) >= 0.9995 * s[1]), scales[-1])
    scaled = amount / size
    if scaled == 0 or not math.isfinite(scaled):
        return f"{scaled:g} {name}".strip()
    decimals = max(0, 2 - math.floor(math.log10(abs(scaled) * 1.0005)))
    return f"{scaled:.{decimals}f} {name}".strip()
