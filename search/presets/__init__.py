"""Settings in TOML files: shipped ones beside this file, and a user's own.

The keys are the fields of `SearchSettings`; those that are not given keep its defaults. In place of
`warmup_steps`, `search_steps` and `train_steps` a file may give epochs, which mean as many steps as
the data set's training images make batches.
"""

from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, create_model

from latency.errors import UsageError, unknown_name
from search.settings import SearchSettings, check_bounds
from search.toml_file import Section, read_toml

_BATCHES = {"warmup": "batch_size", "search": "batch_size", "train": "train_batch_size"}
"""Phases, and the batches that their epochs consist of."""
Epochs = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


def known() -> tuple[str, ...]:
    """Names of the shipped settings."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def load_settings(name: str, images: int, batch_size: int | None = None) -> SearchSettings:
    """The settings that `name` means: shipped ones, or those of a file FILE.toml. `images`: how
    many there are to train on, for what is given in epochs; `batch_size`: in batches of how many,
    where not in the file's own.

    Raises `UsageError`, one line, that names the file, the key and what is allowed.
    """
    path = Path(name)
    if path.suffix != ".toml":
        if name not in known():
            unknown = unknown_name("settings", name, known())
            raise UsageError(f"{unknown}; settings of your own are a file: --settings FILE.toml")
        path = _folder() / f"{name}.toml"
    content: dict[str, Any] = read_toml(path, _File).model_dump(exclude_none=True)
    words = {key: content.pop(key) for key in [*content] if isinstance(content[key], str)}
    try:
        given = _in_steps(content, images, batch_size)
        return replace(SearchSettings(), **given).with_choices(**words)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _in_steps(content: dict[str, Any], images: int, batch_size: int | None) -> dict[str, Any]:
    """What a file says, with steps in place of epochs."""
    given = {key: value for key, value in content.items() if not key.endswith("_epochs")}
    sizes = replace(SearchSettings(), **given)
    for phase, batches in _BATCHES.items():
        epochs, key = content.get(f"{phase}_epochs"), f"{phase}_steps"
        if epochs is None:
            continue
        if key in content:
            raise UsageError(f"{phase}_epochs: give these or {key}, not both")
        given[key] = steps_of(epochs, images, batch_size or getattr(sizes, batches))
        if not given[key] and key != "warmup_steps":
            raise UsageError(f"{phase}_epochs: less than one step of {images} images")
        check_bounds(key, given[key], f"{phase}_epochs, in steps")
    return given


def steps_of(epochs: float, images: int, batch_size: int) -> int:
    """Steps that so many epochs take; an epoch leaves out the images that fill no batch.

    >>> steps_of(2, 1000, 256)
    6
    """
    return round(epochs * max(1, images // batch_size))


def _folder() -> Path:
    return Path(str(files("search.presets")))


def _file() -> type[Section]:
    """What a file of settings may say."""
    kinds: dict[str, Any] = {one.name: one.type for one in fields(SearchSettings)}
    kinds |= {f"{phase}_epochs": Epochs for phase in _BATCHES}
    keys: dict[str, Any] = {name: (kind | None, None) for name, kind in kinds.items()}
    return create_model("_File", __base__=Section, **keys)


_File = _file()
