"""Reads and validates TOML files that people write; errors are one line."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from latency.errors import UsageError, unknown_name
from latency.files import MOST_BYTES, read_text

_LONGEST = 80
"""Characters of a value that a message quotes, at most."""
_MESSAGES = {"missing": "is missing", "model_type": "should be a section of keys"}


class Section(BaseModel):
    """A table of the declared keys, without type coercion; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, section: Any) -> Any:
        for key in section if isinstance(section, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(str(unknown_name("key", key, cls.model_fields)))
        return section


Content = TypeVar("Content", bound=Section)


def read_toml(path: Path, kind: type[Content], **own: str) -> Content:
    """Read a file. `own`: fields that it cannot set. Raises `UsageError`, one line, that names the
    file, the key and what is allowed."""
    try:
        written = tomllib.loads(read_text(path, MOST_BYTES))
        for key in own.keys() & written.keys():
            raise UsageError(f"{path}: {unknown_name('key', key, kind.model_fields.keys() - own)}")
        return kind.model_validate({**written, **own})
    except ValidationError as error:
        raise UsageError(f"{path}: {first_error(error)}") from None
    except (ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise UsageError(f"{path}: not TOML: {message}") from None


def first_error(error: ValidationError) -> str:
    """The first error in one line: the key, what is allowed, and the value if it is a short number
    or string. List items are counted from 1."""
    detail = error.errors()[0]
    parts = [str(part + 1) if isinstance(part, int) else part for part in detail["loc"]]
    key = ".".join(part for part in parts if "[" not in part)  # without the names of types
    message = " ".join(detail["msg"].removeprefix("Value error, ").removeprefix("Input ").split())
    if detail["type"] in _MESSAGES:
        message = _MESSAGES[detail["type"]]
    elif "should " in message and detail["type"] != "value_error":
        message = message.replace("tuple", "list").replace("Tuple", "List")
        message = message[0].lower() + message[1:] + _quoted(detail["input"])
    return f"{key}: {message}" if key else message


def _quoted(value: object) -> str:
    is_huge = isinstance(value, int) and abs(value) >= 10**_LONGEST  # Python refuses to format it
    text = repr(value) if isinstance(value, str | int | float) and not is_huge else ""
    return f", not {text}" if 0 < len(text) <= _LONGEST else ""
