"""The first error of a pydantic validation, as one line."""

from pydantic import ValidationError

_LONGEST = 80
"""Characters of a value that a message quotes, at most."""
_BOUNDS = {
    "greater_than": "gt",
    "greater_than_equal": "ge",
    "less_than": "lt",
    "less_than_equal": "le",
}
_MESSAGES = {
    "missing": "is missing",
    "list_type": "should be a list, such as [3, 5]",
    "model_type": "should be a section of keys",
}


def in_words(error: ValidationError) -> str:
    """The first error: the key, what is wrong, what is allowed."""
    detail = error.errors()[0]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in detail["loc"])
    message = _MESSAGES.get(detail["type"], "")
    if not message:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        quotes_input = message.startswith("should") and detail["type"] != "value_error"
        given = _quoted(detail["input"]) if quotes_input else ""
        bound = (detail.get("ctx") or {}).get(_BOUNDS.get(detail["type"], ""))
        if bound is not None:
            message = f"{message.rpartition(' ')[0]} {bound:g}"
        message = " ".join((f"{message}, not {given}" if given else message).split())
    return f"{key}: {message}" if key else message


def _quoted(given: object) -> str:
    """A number or string as it was written; empty for other types and for long values."""
    if isinstance(given, int) and abs(given) >= 10**_LONGEST:  # Python refuses to format it
        return ""
    text = repr(given) if isinstance(given, str | int | float) else ""
    return text if len(text) <= _LONGEST else ""
