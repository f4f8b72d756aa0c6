"""TOML files that people write: read, checked, and what is wrong with them said in one line."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from latency.errors import UsageError, unknown_name


class Section(BaseModel):
    """Keys and their values, all of the types that are declared; no other keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, section: Any) -> Any:
        for key in section if isinstance(section, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(str(unknown_name("key", key, cls.model_fields)))
        return section


Content = TypeVar("Content", bound=Section)


def read_toml(path: Path, kind: type[Content]) -> Content:
    """What a file says.

    Raises `UsageError`, one line, that names the file, the key and what is allowed.
    """
    try:
        return kind(**tomllib.loads(path.read_text()))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {_in_words(error.errors()[0])}") from None


def _in_words(detail: ErrorDetails) -> str:
    """An error of validation: which key, what is wrong, what is allowed."""
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in detail["loc"])
    said = {
        "missing": "is missing",
        "list_type": "a list is wanted, such as [3, 5]",
        "model_type": "a section of keys is wanted",
    }.get(detail["type"])
    if said is None:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        given = detail["input"]
        is_plain = isinstance(given, str | int | float)
        said = f"{message}, not {given!r}" if message.startswith("should") and is_plain else message
    return f"{key}: {said}" if key else said
