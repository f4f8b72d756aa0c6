"""Reads and validates TOML files that people write; errors are one line."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from latency.errors import UsageError, unknown_name
from latency.files import MOST_BYTES, read_text
from search.validation import first_error


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


def read_toml(path: Path, kind: type[Content]) -> Content:
    """Read a file; `UsageError`, one line, names the file, the key and what is allowed."""
    try:
        return kind.model_validate(tomllib.loads(read_text(path, MOST_BYTES)))
    except ValidationError as error:
        raise UsageError(f"{path}: {first_error(error)}") from None
    except (ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise UsageError(f"{path}: not TOML: {message}") from None
