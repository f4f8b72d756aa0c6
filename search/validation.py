"""The first error of a pydantic validation, as one line."""

from pydantic import ValidationError

_LONGEST = 80
"""Characters of a value that a message quotes, at most."""
_MESSAGES = {"missing": "is missing", "model_type": "should be a section of keys"}


def first_error(error: ValidationError) -> str:
    """The first error in one line: the key, what is allowed, and the value if it is a short number
    or string. List items are counted from 1."""
    detail = error.errors()[0]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in detail["loc"])
    message = " ".join(detail["msg"].removeprefix("Value error, ").removeprefix("Input ").split())
    if detail["type"] in _MESSAGES:
        message = _MESSAGES[detail["type"]]
    elif message.startswith("should") and detail["type"] != "value_error":
        message += _quoted(detail["input"])
    return f"{key}: {message}" if key else message


def _quoted(value: object) -> str:
    is_huge = isinstance(value, int) and abs(value) >= 10**_LONGEST  # Python refuses to format it
    text = repr(value) if isinstance(value, str | int | float) and not is_huge else ""
    return f", not {text}" if 0 < len(text) <= _LONGEST else ""
