"""What pydantic finds wrong with a file or a number, in one line."""

from pydantic import ValidationError

_LONGEST = 80
"""Characters of a value that are repeated to who wrote it."""


def in_words(error: ValidationError) -> str:
    """The first error: which key, what is wrong, what is allowed."""
    detail = error.errors()[0]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in detail["loc"])
    said = {
        "missing": "is missing",
        "list_type": "a list is wanted, such as [3, 5]",
        "model_type": "a section of keys is wanted",
    }.get(detail["type"])
    if said is None:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        given = _shown(detail["input"]) if message.startswith("should") else ""
        bound = (detail.get("ctx") or {}).get(_BOUNDS.get(detail["type"], ""))
        if bound is not None:
            message = f"{message.rpartition(' ')[0]} {bound:g}"
        said = f"{message}, not {given}" if given else message
    said = " ".join(said.split())
    return f"{key}: {said}" if key else said


_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt"}
_BOUNDS["less_than_equal"] = "le"


def _shown(given: object) -> str:
    """A plain value as it was written; nothing of others, and of those too long to be read."""
    if isinstance(given, int) and abs(given) >= 10**_LONGEST:  # Python refuses to write it out
        return ""
    text = repr(given) if isinstance(given, str | int | float) else ""
    return text if len(text) <= _LONGEST else ""
